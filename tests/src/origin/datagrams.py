"""Sends datagrams back from the address to which they were sent (ip(7), IP_PKTINFO). Listens on TCP to show that it is ready."""

import socket
import struct
import sys

IP_PKTINFO = 8

port = int(sys.argv[1])
service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
service.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
service.bind(("0.0.0.0", port))
ready = socket.create_server(("0.0.0.0", port))
while True:
    payload, ancillary, _, client = service.recvmsg(65535, 64)
    _, _, asked = struct.unpack("I4s4s", ancillary[0][2])
    own = struct.pack("I4s4s", 0, asked, bytes(4))
    try:
        service.sendmsg([payload], [(socket.IPPROTO_IP, IP_PKTINFO, own)], 0, client)
    except OSError:
        pass  # an ICMP error on account of an earlier answer
