"""
Requests to the broker about sockets of the wrong kind, and about another than is attached: so they come when a thread gives a number to another
socket just as the shim attaches it. Each is refused, and the socket is as it was.

    tickets.py DESTINATION PORT
"""
import errno
import os
import socket
import struct
import sys

SO_COOKIE = 57
CONNECT, DATAGRAM_CONNECT, DATAGRAM_SEND, DATAGRAM_OPEN, DEVICE, DATAGRAM_DISSOLVE, BIND = 1, 5, 6, 7, 8, 9, 10
DONE = 129
SESSION = os.environ["PRESOCKS_SESSION"]
RENDEZVOUS, TOKEN = SESSION[3:35], bytes.fromhex(SESSION[35:67])
TO = (sys.argv[1], int(sys.argv[2]))


def cookie_of(sock):
    return struct.unpack("Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


def frame(operation, cookie, is_addressed):
    address = socket.inet_aton(TO[0]) if is_addressed else b""
    head = struct.pack(">4sBBBB16s16sHHIQ", b"psk1", operation, 0, 4 if address else 0, 4 if operation == CONNECT else 0, TOKEN, address, TO[1] if address else 0, 0, 0, cookie)
    return head + bytes(256)


def ask(operation, sock, cookie=0):
    """The errno that the broker answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ticket:
        queue = b"-" if operation == CONNECT else b"?"
        ticket.connect(b"\0presocks" + queue + RENDEZVOUS.encode())
        is_addressed = operation in (CONNECT, DATAGRAM_CONNECT, DATAGRAM_SEND, BIND)
        socket.send_fds(ticket, [frame(operation, cookie, is_addressed)], [sock.fileno()])
        reply = ticket.recv(400)
    if len(reply) < 48 or reply[4] != DONE:
        return f"reply {reply[4:5].hex()}"
    number = struct.unpack(">i", reply[44:48])[0]
    return errno.errorcode.get(number, str(number))


def state(sock):
    try:
        peer = sock.getpeername()
    except OSError as error:
        peer = errno.errorcode[error.errno]
    return peer, sock.getsockname()


def is_refused(what, operation, sock, cookie=0):
    before = state(sock)
    answer = ask(operation, sock, cookie)
    print(f"{what}: {answer}, {'as before' if state(sock) == before else state(sock)}", flush=True)


def tcp():
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


connected = tcp()
print("the very socket:", ask(CONNECT, connected, cookie_of(connected)))
connected.sendall(b"echo")
print("is connected:", connected.recv(4) == b"echo")

datagrams, other, local = udp(), tcp(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
is_refused("a connect of UDP", CONNECT, datagrams, cookie_of(datagrams))
is_refused("a connect of a Unix socket", CONNECT, local, cookie_of(local))
is_refused("a connect of another", CONNECT, other, cookie_of(tcp()))
for name, operation in [("connect", DATAGRAM_CONNECT), ("send", DATAGRAM_SEND), ("open", DATAGRAM_OPEN), ("dissolve", DATAGRAM_DISSOLVE)]:
    is_refused(f"a datagram's {name}, of TCP", operation, other)
    is_refused(f"a datagram's {name}, of connected TCP", operation, connected)
    is_refused(f"a datagram's {name}, of a Unix socket", operation, local)
is_refused("a device of a Unix socket", DEVICE, local)
is_refused("a bind of a Unix socket", BIND, local)

connected.sendall(b"echo")
print("is still connected:", connected.recv(4) == b"echo")
