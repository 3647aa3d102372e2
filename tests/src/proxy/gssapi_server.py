"""gssapi_server.py ADDRESS PORT RELAY-PORT HABIT: a SOCKS5 server with GSSAPI alone (RFC 1961).

HABIT is what it does wrong, or the largest message that it sends (a number), or nothing.
"""

import os
import socket
import struct
import sys
import threading
import time

import gssapi

ADDRESS, PORT, RELAY, HABIT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
AUTHENTICATION, PROTECTION, DATA = 1, 2, 3
MOST = int(HABIT) if HABIT.isdigit() else 32768
if HABIT == "stale keys":
    os.environ["KRB5_KTNAME"] += ".stale"


class Closed(Exception):
    """The client has ended where it may."""


def receive(client, length, may_end=False):
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            raise Closed if may_end and not data else EOFError
        data += part
    return data


def receive_token(client, kind, may_end=False):
    version, came, length = struct.unpack("!BBH", receive(client, 4, may_end))
    assert (version, came) == (1, kind), (version, came)
    return receive(client, length)


def message(kind, token):
    return struct.pack("!BBH", 1, kind, len(token)) + token


class Client:
    def __init__(self, connection):
        self.connection = connection
        self.lock = threading.Lock()
        self.sent = 0

    def serve(self):
        client = self.connection
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        version, count = receive(client, 2)
        methods = receive(client, count)
        assert version == 5 and methods == b"\x01", methods
        if HABIT in CHOICES:
            client.sendall(bytes([5, CHOICES[HABIT]]))
            client.recv(1)
            return
        client.sendall(b"\x05\x01")
        if not self.authenticate() or not self.agree():
            return
        _, command, _ = self.receive_exactly(3)
        host, port = self.receive_target()
        if command == 1:
            self.connect(host, port)
        elif command == 3:
            self.associate()
        else:
            self.send(b"\x05\x07\x00\x01" + bytes(6))

    def authenticate(self):
        client = self.connection
        name = gssapi.Name("rcmd@proxy.lab", gssapi.NameType.hostbased_service)
        self.context = gssapi.SecurityContext(creds=gssapi.Credentials(name=name, usage="accept"), usage="accept")
        while not self.context.complete:
            token = receive_token(client, AUTHENTICATION)
            if HABIT == "close on ticket":
                return False
            if HABIT in ANSWERS:
                client.sendall(ANSWERS[HABIT])
                client.recv(1)
                return False
            if HABIT == "late":
                time.sleep(3)
            try:
                answer = self.context.step(token)
            except gssapi.exceptions.GSSError as error:
                print("refused:", error, flush=True)
                client.sendall(b"\x01\xff")
                return False
            if answer:
                client.sendall(message(AUTHENTICATION, answer))
        return True

    def agree(self):
        client = self.connection
        level = self.context.unwrap(receive_token(client, PROTECTION)).message
        print("level", level[0], flush=True)
        if HABIT == "close on level":
            return False
        answer = {"weaker": b"\x01", "none": b"\x00", "stronger": b"\x02", "selective": b"\x03", "two levels": b"\x02\x02"}.get(HABIT, level)
        token = self.context.wrap(answer, False).message
        if HABIT == "forged level":
            token = token[:-1] + bytes([token[-1] ^ 1])
        self.level = 2 if HABIT == "stronger" else level[0]
        client.sendall(message(PROTECTION, answer if HABIT == "bare level" else token))
        self.opened = b""
        return True

    def receive_some(self):
        """What the next message says; nothing at the end."""
        if self.level == 0:
            return self.connection.recv(65536)
        try:
            token = receive_token(self.connection, DATA, may_end=True)
        except Closed:
            return b""
        with self.lock:
            opened = self.context.unwrap(token)
        assert opened.encrypted == (self.level == 2), "wrong protection"
        return opened.message

    def receive_exactly(self, length):
        while len(self.opened) < length:
            part = self.receive_some()
            if not part:
                raise EOFError
            self.opened += part
        data, self.opened = self.opened[:length], self.opened[length:]
        return data

    def receive_target(self):
        kind = self.receive_exactly(1)[0]
        if kind == 3:
            host = self.receive_exactly(self.receive_exactly(1)[0]).decode()
        else:
            family, length = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
            host = socket.inet_ntop(family, self.receive_exactly(length))
        return host, struct.unpack("!H", self.receive_exactly(2))[0]

    def seal(self, data):
        with self.lock:
            return self.context.wrap(data, self.level == 2 and HABIT != "readable").message

    def send(self, data):
        if self.level == 0:
            self.connection.sendall(data)
            return
        while data:
            part, data = data[:MOST], data[MOST:]
            sealed = message(DATA, self.seal(part))
            self.sent += 1
            # Only what comes after the reply.
            if self.sent > 1 and HABIT in FAULTS:
                FAULTS[HABIT](self, sealed)
            elif HABIT == "dribble":
                for byte in sealed:
                    self.connection.sendall(bytes([byte]))
            elif HABIT == "empty":
                nothing = [message(DATA, self.seal(b"")) for _ in range(2)]
                self.connection.sendall(sealed + b"".join(nothing))
            else:
                self.connection.sendall(sealed)

    def connect(self, host, port):
        try:
            server = socket.create_connection((host, port))
        except OSError as error:
            code = 5 if isinstance(error, ConnectionRefusedError) else 4
            self.send(bytes([5, code, 0, 1]) + bytes(6))
            return
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reply = b"\x05\x00\x00\x01" + bytes(6)
        if HABIT == "banner":
            # The server's first words come in the very message of the reply.
            reply += server.recv(65536)
        self.send(reply)
        if HABIT == "flood":
            self.connection.sendall(b"".join(message(DATA, self.seal(b"")) for _ in range(50000)))
        back = threading.Thread(target=self.pass_back, args=(server,), daemon=True)
        back.start()
        while data := self.opened or self.receive_some():
            self.opened = b""
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)
        back.join()

    def pass_back(self, server):
        try:
            while data := server.recv(65536):
                self.send(data)
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.connection.close()

    def associate(self):
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port = next(port for port in range(RELAY, RELAY + 100) if is_bound(near, port))
        far = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.send(b"\x05\x00\x00\x01" + socket.inet_aton(ADDRESS) + struct.pack("!H", port))
        self.peer = None
        for pump in (self.pass_datagrams_there, self.pass_datagrams_back):
            threading.Thread(target=pump, args=(near, far), daemon=True).start()
        while self.receive_some():
            pass

    def pass_datagrams_there(self, near, far):
        while True:
            datagram, self.peer = near.recvfrom(65536)
            if self.level > 0:
                assert datagram[:2] == b"\x01\x03", datagram[:4]
                with self.lock:
                    opened = self.context.unwrap(datagram[4:])
                assert opened.encrypted == (self.level == 2), "wrong protection"
                datagram = opened.message
            kind = datagram[3]
            if kind == 3:
                end = 5 + datagram[4]
                host = datagram[5:end].decode()
            else:
                end = 8 if kind == 1 else 20
                host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, datagram[4:end])
            port = struct.unpack("!H", datagram[end : end + 2])[0]
            found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_DGRAM, 0, socket.AI_V4MAPPED | socket.AI_ALL)
            far.sendto(datagram[end + 2 :], found[0][4])

    def pass_datagrams_back(self, near, far):
        while True:
            payload, source = far.recvfrom(65536)
            address = socket.inet_pton(socket.AF_INET6, source[0])
            kind, address = (1, address[12:]) if source[0].startswith("::ffff:") else (4, address)
            datagram = bytes([0, 0, 0, kind]) + address + struct.pack("!H", source[1]) + payload
            if self.level > 0:
                datagram = message(DATA, self.seal(datagram))
            if HABIT == "forged datagrams":
                near.sendto(b"\0\0\0\1\x0a\x58\0\2" + struct.pack("!H", source[1]) + b"forged", self.peer)
                near.sendto(datagram[:-1] + bytes([datagram[-1] ^ 1]), self.peer)
            near.sendto(datagram, self.peer)
            if HABIT == "forged datagrams":
                near.sendto(datagram, self.peer)


def is_bound(near, port):
    try:
        near.bind((ADDRESS, port))
        return True
    except OSError:
        return False


def cut(self, sealed):
    self.connection.sendall(sealed[:-1])
    self.connection.close()
    os._exit(0)


CHOICES = {"no authentication": 0, "password": 2, "no method": 0xFF}

ANSWERS = {
    "abort": b"\x01\xff",
    "no token": b"\x01\x01\x00\x00",
    "garbage token": message(AUTHENTICATION, b"\x60\x82" + bytes(range(200))),
    "wrong kind": message(PROTECTION, b"\x02"),
    "wrong version": message(AUTHENTICATION, b"x").replace(b"\x01", b"\x07", 1),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "longest token": message(AUTHENTICATION, b"x" * 65535),
}

FAULTS = {
    "flip": lambda self, sealed: self.connection.sendall(sealed[:-1] + bytes([sealed[-1] ^ 1])),
    "twice": lambda self, sealed: self.connection.sendall(sealed * 2),
    "cut": cut,
    "bare data": lambda self, sealed: self.connection.sendall(b"in the clear, all of it"),
    "bare token": lambda self, sealed: self.connection.sendall(message(DATA, b"in the clear, all of it")),
    "abort later": lambda self, sealed: self.connection.sendall(b"\x01\xff"),
}


def serve(connection):
    with connection:
        try:
            Client(connection).serve()
        except (OSError, EOFError, Closed) as error:
            print("ended:", repr(error), flush=True)


listener = socket.create_server((ADDRESS, PORT), backlog=1024)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
