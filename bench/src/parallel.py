"""Opens as many connections at once as each line of standard input says, and prints how many nanoseconds that took.

parallel.py DESTINATION PORT [PROXY PORT]: with a proxy it speaks SOCKS5 itself.
"""

import asyncio
import socket
import sys
import time


async def plain(destination):
    return await asyncio.open_connection(*destination)


async def socks(destination, proxy):
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(b"\x05\x01\x00")
    if await reader.readexactly(2) != b"\x05\x00":
        raise ConnectionError("method refused")
    address, port = destination
    writer.write(b"\x05\x01\x00\x01" + socket.inet_aton(address) + int(port).to_bytes(2, "big"))
    if (await reader.readexactly(10))[1] != 0:
        raise ConnectionError("request refused")
    return reader, writer


async def main(destination, proxy):
    for line in iter(sys.stdin.readline, ""):
        started = time.perf_counter_ns()
        opened = await asyncio.gather(
            *(socks(destination, proxy) if proxy else plain(destination) for _ in range(int(line)))
        )
        print(time.perf_counter_ns() - started, flush=True)
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened))


asyncio.run(main(sys.argv[1:3], sys.argv[3:5]))
