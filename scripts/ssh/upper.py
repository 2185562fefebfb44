"""A server on 127.0.0.1 or a unix socket that answers each connection.

    upper.py tcp PORT    with its input in capitals, once that has ended
    upper.py unix PATH   the same
    upper.py echo PORT   with its input, as it comes
"""

import socket
import socketserver
import sys


class Upper(socketserver.BaseRequestHandler):
    """Answers after the peer's half has ended: a half-close must have passed."""

    def handle(self):
        data = b""
        while chunk := self.request.recv(65536):
            data += chunk
        self.request.sendall(data.upper())
        self.request.shutdown(socket.SHUT_WR)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while chunk := self.request.recv(65536):
            self.request.sendall(chunk)
        self.request.shutdown(socket.SHUT_WR)


class TCPServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


kind, where = sys.argv[1:]
handler = Echo if kind == "echo" else Upper
if kind == "unix":
    server = UnixServer(where, handler)
else:
    server = TCPServer(("127.0.0.1", int(where)), handler)
server.serve_forever()
