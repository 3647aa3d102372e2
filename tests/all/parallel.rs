//! 200 connections at once through a proxy that answers none of them before it has heard all: a program (or a broker)
//! that waits for one connection before it starts the next never ends.

use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::ScriptedProxy;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::{Lab, lab, missing};

const CONNECTIONS: usize = 200;

/// A proxy that lets nobody through before [`CONNECTIONS`] requests have come, then relays them to `web`.
fn patient_proxy(lab: &Lab, web: &HttpServer) -> ScriptedProxy {
    let gate = Gate::after(CONNECTIONS);
    Script::until_request().pass(&gate).send(SUCCESS).relay((lab::ORIGIN, web.port())).start(lab)
}

/// How many requests were the program's. One more may be the broker's own: whether the proxy takes greeting and request in
/// one flight is asked by having it connect to itself.
fn asked_for_the_origin(proxy: &ScriptedProxy) -> usize {
    let itself = proxy.port().to_be_bytes();
    proxy.connections().iter().filter(|connection| !connection.received.ends_with(&itself)).count()
}

#[test]
fn asyncio_opens_200_connections_at_once() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = patient_proxy(&lab, &web);
    let program = format!(
        "
import asyncio
async def fetch(number):
    reader, writer = await asyncio.open_connection('origin.test' if number % 2 else '10.88.0.2', 80)
    writer.write(b'GET /hello HTTP/1.0\\r\\n\\r\\n')
    return (await reader.read()).split(b'\\r\\n\\r\\n', 1)[1].decode()
async def main():
    print(''.join(await asyncio.gather(*map(fetch, range({CONNECTIONS})))), end='')
asyncio.run(main())"
    );
    let run = lab.presocks(["python3", "-c", &program]).proxy(&proxy).run();
    run.success().stdout_is(http::HELLO.repeat(CONNECTIONS)).stderr_is("");
    assert_eq!(asked_for_the_origin(&proxy), CONNECTIONS);
    lab.assert_no_leak();
}

#[test]
fn curl_opens_200_connections_at_once() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = patient_proxy(&lab, &web);
    let parallel =
        ["curl", "-sS", "--parallel", "--parallel-immediate", "--parallel-max", "200", "--no-keepalive"];
    let pages = (0..CONNECTIONS).map(|number| format!("http://10.88.0.2/hello?{number}"));
    let words = parallel.iter().map(|word| (*word).to_owned()).chain(pages);
    lab.presocks(words).proxy(&proxy).run().success().stdout_is(http::HELLO.repeat(CONNECTIONS));
    assert_eq!(asked_for_the_origin(&proxy), CONNECTIONS);
    lab.assert_no_leak();
}

// By address: for a name Node would try the second family after a quarter of a second, and the count would be its mood.
#[test]
fn node_opens_200_connections_at_once() {
    if missing(&["node"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = patient_proxy(&lab, &web);
    let program = format!(
        "
const fetches = Array.from({{ length: {CONNECTIONS} }}, (_, number) =>
  fetch(`http://10.88.0.2/hello?${{number}}`).then(answer => answer.text()));
Promise.all(fetches).then(pages => process.stdout.write(pages.join('')));"
    );
    let run = lab.presocks(["node", "-e", &program]).proxy(&proxy).run();
    run.success().stdout_is(http::HELLO.repeat(CONNECTIONS));
    assert_eq!(asked_for_the_origin(&proxy), CONNECTIONS);
    lab.assert_no_leak();
}

#[test]
fn an_event_loop_turns_while_its_connections_wait() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let gate = Gate::closed();
    let proxy =
        Script::until_request().pass(&gate).send(SUCCESS).relay((lab::ORIGIN, web.port())).start(&lab);
    let program = "
import asyncio, sys
async def main():
    loop = asyncio.get_running_loop()
    held = [asyncio.create_task(asyncio.open_connection('origin.test', 80)) for _ in range(2)]
    line = await loop.run_in_executor(None, sys.stdin.readline)
    print('the loop turns,', sum(task.done() for task in held), 'connected', flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for task in held:
        reader, writer = await task
        writer.write(b'GET /hello HTTP/1.0\\r\\n\\r\\n')
        print((await reader.read()).split(b'\\r\\n\\r\\n', 1)[1].decode(), end='')
asyncio.run(main())";
    let mut running = lab.presocks(["python3", "-c", program]).proxy(&proxy).start();
    gate.wait_for_arrivals(2);
    running.write("both requests have arrived\n");
    assert_eq!(running.line(), "the loop turns, 0 connected");
    gate.open();
    running.write("the gate is open\n");
    let outcome = running.finish();
    outcome.success().stdout_is(format!("the loop turns, 0 connected\n{}", http::HELLO.repeat(2)));
    lab.assert_no_leak();
}
