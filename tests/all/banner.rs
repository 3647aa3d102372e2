//! Servers that speak first, when their first words arrive together with the proxy's reply: no byte of them may be
//! taken for the proxy's, none may be lost.

use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::{Lab, missing};

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2p1\r\n";

/// Every form in which a proxy may name the address that it bound: IPv4, IPv6, names of one and of 255 bytes.
fn replies() -> Vec<Vec<u8>> {
    let name = |length: u8| [&[5, 0, 0, 3, length][..], &vec![b'x'; length.into()], &[0, 80]].concat();
    let ipv6 = [&[5, 0, 0, 4][..], &[0x20; 16], &[0, 80]].concat();
    vec![SUCCESS.to_vec(), ipv6, name(1), name(255)]
}

#[test]
fn a_banner_in_the_very_segment_of_the_proxys_reply_arrives_whole() {
    if missing(&["nc"]) {
        return;
    }
    let lab = Lab::new();
    for reply in replies() {
        let proxy = Script::until_request().send([reply.as_slice(), BANNER].concat()).start(&lab);
        lab.presocks(["nc", "-N", "origin.test", "22"]).proxy(&proxy).run().success().stdout_is(BANNER);
    }
    lab.assert_no_leak();
}

#[test]
fn a_banner_that_follows_a_dribbling_reply_arrives_whole() {
    if missing(&["nc"]) {
        return;
    }
    let lab = Lab::new();
    for reply in replies() {
        let script =
            Script::new().greeting().dribble([5, 0]).request().dribble([reply.as_slice(), BANNER].concat());
        let proxy = script.start(&lab);
        lab.presocks(["nc", "-N", "10.88.0.2", "22"]).proxy(&proxy).run().success().stdout_is(BANNER);
    }
    lab.assert_no_leak();
}

#[test]
fn a_non_blocking_program_gets_the_whole_banner_too() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let program = "
import asyncio
async def main():
    reader, writer = await asyncio.open_connection('origin.test', 22)
    print((await reader.read()).decode(), end='')
asyncio.run(main())";
    for reply in replies() {
        let proxy = Script::until_request().send([reply.as_slice(), BANNER].concat()).start(&lab);
        lab.presocks(["python3", "-c", program])
            .proxy(&proxy)
            .run()
            .success()
            .stdout_is("SSH-2.0-OpenSSH_9.2p1\r\n");
    }
    lab.assert_no_leak();
}

#[test]
fn the_request_names_the_destination_as_the_program_did() {
    if missing(&["nc"]) {
        return;
    }
    let lab = Lab::new();
    let far = [
        ("origin.test", [&[5, 1, 0, 3, 11][..], b"origin.test", &[0, 22]].concat()),
        ("10.88.0.2", vec![5, 1, 0, 1, 10, 88, 0, 2, 0, 22]),
        ("fd88::2", [&[5, 1, 0, 4, 0xfd, 0x88][..], &[0; 13], &[2, 0, 22]].concat()),
    ];
    for (destination, request) in far {
        let proxy = Script::until_request().send(SUCCESS).start(&lab);
        lab.presocks(["nc", "-N", destination, "22"]).proxy(&proxy).run().success();
        let connections = proxy.finished(1);
        assert_eq!(connections.len(), 1, "{connections:?}");
        assert!(connections[0].received.ends_with(&request), "{connections:?}");
    }
    lab.assert_no_leak();
}
