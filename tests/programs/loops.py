"""Event loops: 100 connects at once on each kind of selector, none early, none late, the loop never stalled.

The asyncio counterpart of the C programs, with the same arguments and the same kind of output (see check.h).
"""

import asyncio
import errno
import selectors
import socket
import sys

ARGUMENTS = dict(word.split("=", 1) for word in sys.argv[1:])
MANY = 100
failed = False


def check(name: str, holds: bool, details: object = "") -> None:
    global failed
    print(f"{name}: ok" if holds else f"{name}: FAILED ({details})", flush=True)
    failed |= not holds


def endpoint(name: str) -> tuple[str, int]:
    host, _, port = ARGUMENTS[name].rpartition(":")
    return host.strip("[]"), int(port)


def stage(command: str) -> None:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(ARGUMENTS["control"])
        control.sendall(command.encode())
        control.shutdown(socket.SHUT_WR)
        assert control.recv(8) == b"ok"


async def echo(host: str, port: int, number: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    line = f"line {number}\n".encode()
    writer.write(line)
    answer = await reader.readline()
    peer = writer.get_extra_info("peername")
    writer.close()
    await writer.wait_closed()
    return answer == line and peer[:2] == (host, port)


async def refused(host: str, port: int) -> int:
    try:
        await asyncio.open_connection(host, port)
    except OSError as error:
        return error.errno or 0
    return 0


async def scene(label: str) -> None:
    stage("hold")
    connects = [asyncio.create_task(echo(*endpoint("held"), number)) for number in range(MANY)]
    refusals = [asyncio.create_task(refused(*endpoint("heldrefused"))) for _ in range(10)]
    for _ in range(20):
        await asyncio.sleep(0.005)
    check(f"{label}: none is done while held", not any(task.done() for task in connects + refusals))
    check(f"{label}: others connect meanwhile", await echo(*endpoint("open"), -1))
    check(f"{label}: IPv6 too", await echo(*endpoint("open6"), -2))
    stage("release")
    good = await asyncio.gather(*connects)
    check(f"{label}: all echo", all(good), sum(good))
    errors = await asyncio.gather(*refusals)
    check(f"{label}: all are refused", errors == [errno.ECONNREFUSED] * 10, errors)


async def cancelled(label: str) -> None:
    """A connect that is given up must leave nothing behind for the socket that gets its number next."""
    stage("hold")
    try:
        await asyncio.wait_for(asyncio.open_connection(*endpoint("held")), 0.05)
        check(f"{label}: gives up", False)
    except TimeoutError:
        check(f"{label}: gives up", True)
    check(f"{label}: the next one connects", await echo(*endpoint("open"), -3))
    stage("release")


async def name_in_executor(label: str) -> None:
    reader, writer = await asyncio.open_connection(ARGUMENTS["name"], endpoint("open")[1])
    writer.write(b"by name\n")
    check(f"{label}: by name", await reader.readline() == b"by name\n")
    writer.close()


def main() -> None:
    for kind in (selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector):
        loop = asyncio.SelectorEventLoop(kind())
        for each in (scene, cancelled, name_in_executor):
            loop.run_until_complete(each(kind.__name__))
        loop.close()
    sys.exit(failed)


main()
