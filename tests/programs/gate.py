"""Holds connections to one address back until it is told to let them go, without a timer.

Started in the namespace that borders on the origin: the address' neighbour entry is taken away (the origin answers no
ARP for it), so that a SYN waits in the kernel's queue; putting the entry back sends it at once. Programs say "hold" or
"release" on a Unix socket and get "ok".

usage: gate.py SOCKET DEVICE ADDRESS MAC
"""

import os
import socket
import subprocess
import sys

path, device, address, mac = sys.argv[1:]


def neighbour(*words: str) -> None:
    subprocess.run(["ip", "neigh", *words], check=False, stderr=subprocess.DEVNULL)


def release() -> None:
    neighbour("replace", address, "lladdr", mac, "dev", device, "nud", "permanent")


def hold() -> None:
    neighbour("del", address, "dev", device)


release()
with socket.socket(socket.AF_UNIX) as listener:
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        with client:
            {b"hold": hold, b"release": release}[client.recv(16)]()
            client.sendall(b"ok")
