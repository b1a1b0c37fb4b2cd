"""A server that speaks TLS, and the proxies on the way to it: all on raw sockets, and able to fail."""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import ssl
import struct
import subprocess
from pathlib import Path

from tests.support.programs import find_program
from tests.support.server import RecordingServer

PASSWORD = "opensesame"
LATE = 1.5  # seconds


def make_certificates(folder: Path, days: int = 30) -> None:
    """Write the certificate of a CA, and that of a server with its key; -1 makes one that has expired."""
    more = "subjectAltName=DNS:focuslab.invalid,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
    (folder / "more").write_text(more)
    by_ca = "-CA ca.pem -CAkey ca.key -CAcreateserial"
    ec = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"req -x509 {ec} -subj /CN=ca -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem",
        f"req {ec} -subj /CN=focuslab.invalid -keyout key.pem -out asked.pem",
        f"x509 -req -in asked.pem {by_ca} -days {days} -extfile more -out server.pem",
    ):
        subprocess.run([find_program("openssl"), *command.split()], check=True, capture_output=True, cwd=folder)


def connections_to(port: int) -> list[socket.socket]:
    """Return the sockets of this process that are connected to a port of this machine."""
    found = []
    for opened in gc.get_objects():
        if issubclass(type(opened), socket.socket):
            with contextlib.suppress(OSError):  # it is closed, or listens
                if opened.getpeername()[1] == port:
                    found.append(opened)
    return found


class TlsServer(RecordingServer):
    """Speaks HTTPS."""

    ending = None

    def __init__(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem", folder / "key.pem")
        super().__init__()
        self.endpoint = self.endpoint.replace("http", "https", 1)

    def hang_up(self):
        """Close every connection that is open; `SSLSocket.shutdown` would pull TLS away from under a read."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def wrap(self, connection):
        """Return a connection that speaks TLS, or None."""
        self._open.discard(connection)
        try:
            wrapped = self.context.wrap_socket(connection, server_side=True)
        except OSError:
            return connection.close()
        self._open.add(wrapped)
        self.last = wrapped
        return wrapped

    def _serve(self, connection, number):
        wrapped = self.wrap(connection)
        if wrapped is not None:
            super()._serve(wrapped, number)

    def _read(self, reader, number):
        """Read a request; or of the second one only a byte, if `ending` is to end the connection there."""
        if self.ending and len(self.requests) == 1 and number == 1 and reader.read(1):
            self.ending(self, self.last)
            return None
        return super()._read(reader, number)


class Way(TlsServer):
    """A proxy, or a mere wire, on the way to a server. `fault` says how it fails."""

    def __init__(self, folder, kind, server):
        self.kind, self.server, self.fault = kind, server, ""
        self.seen = b""  # of what is sent to the server, and to the proxy itself
        super().__init__(folder)

    def _serve(self, connection, number):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self.wrap(connection) if self.kind == "https" else connection
        try:
            if connection is not None and self._agree(connection):
                with socket.create_connection(("127.0.0.1", self.server.port)) as beyond:
                    beyond.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while self._relay(connection, beyond):
                        pass
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            if connection is not None:
                connection.close()

    def _agree(self, connection):
        if self.kind == "socks5h":
            for answer in (b"\5\2", b"\1\0", b"\5\0\0\1" + bytes(6)):
                self.seen += connection.recv(1000)
                connection.sendall(answer)
        elif self.kind != "direct":
            asked = connection.recv(1000)
            self.seen += asked
            if self.fault == "late":
                self.stopped.wait(LATE)
            status = self.fault if self.fault.isdigit() else "200"
            connection.sendall(f"HTTP/1.1 {status} {PASSWORD}\r\n\r\n".encode())
            return status == "200"
        return True

    def _relay(self, near, beyond):
        """Pass on what comes next. Return whether there may be more."""
        pending = getattr(near, "pending", int)()
        ready = [near] if pending else select.select([near, beyond], [], [])[0]
        data = ready[0].recv(65536)
        if self.fault in ("hang", "late"):
            self.stopped.wait()
        elif self.fault == "reset":
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.fault == "drip" and ready[0] is beyond:
            for byte in data:
                near.sendall(bytes([byte]))
                self.stopped.wait(0.02)
        else:
            self.seen += data if ready[0] is near else b""
            (beyond if ready[0] is near else near).sendall(data)
        return bool(data) and self.fault != "reset" and not self.stopped.is_set()
