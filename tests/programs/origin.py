"""The far end of the tests, started in the origin's namespace.

Prints "ready" and serves until it is killed: 7000 echoes what it reads; 7003 says "220 hello" first, then echoes;
7001 is closed. Every accepted connection is appended to the file given, one line `port peer`, so that a test can show
that a destination saw no connection.
"""

import asyncio
import socket
import sys

ECHO, BANNER = 7000, 7003


def service(banner: bytes, log):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        log.write(f"{port} {writer.get_extra_info('peername')[0]}\n")
        log.flush()
        writer.write(banner)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    return serve


async def main() -> None:
    with open(sys.argv[1], "a", encoding="ascii") as log:
        for port, banner in ((ECHO, b""), (BANNER, b"220 hello\r\n")):
            listener = socket.socket(socket.AF_INET6)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("::", port))
            await asyncio.start_server(service(banner, log), sock=listener, backlog=4096)
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
