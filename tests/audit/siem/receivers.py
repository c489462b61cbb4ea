"""Real receivers on loopback: HTTP, syslog over TCP, TLS and UDP. Each keeps what it took."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class HttpReceiver(ThreadingHTTPServer):
    """Answers with ``statuses`` in turn, the last one for good, and keeps what it answered 200."""

    daemon_threads = True

    def __init__(self, *statuses: int, answer: bytes = b"{}") -> None:
        self.statuses = list(statuses or (200,))
        self.answer = answer
        self.taken: list[bytes] = []
        self.num_posts = 0
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _HttpHandler)

    @property
    def place(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.server_address[1]}"


class _HttpHandler(BaseHTTPRequestHandler):
    server: HttpReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        server.num_posts += 1
        server.headers.append(dict(self.headers))
        status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
        if status == 200:
            server.taken.append(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(server.answer)))
        if status == 302:
            self.send_header("Location", f"http://{server.place}/elsewhere")
        self.end_headers()
        self.wfile.write(server.answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class StreamReceiver(socketserver.ThreadingTCPServer):
    """Takes octet-counted messages, over TLS if it has a context."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.taken: list[bytes] = []
        self.connections: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _StreamHandler)

    def wait_for(self, num_messages: int, limit_s: float = 30.0) -> None:
        """Wait until so many messages were taken: a sender learns nothing of that."""
        end = time.monotonic() + limit_s
        while len(self.taken) < num_messages:
            assert time.monotonic() < end, f"{len(self.taken)} of {num_messages} messages"
            time.sleep(0.01)


class _StreamHandler(socketserver.BaseRequestHandler):
    server: StreamReceiver

    def handle(self) -> None:
        wire: socket.socket = self.request
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.server.context is not None:
                wire = self.server.context.wrap_socket(wire, server_side=True)
            self.server.connections.append(wire)
            with contextlib.closing(wire), wire.makefile("rb") as file:
                while size := _count(file):
                    self.server.taken.append(file.read(size))


def _count(file: BinaryIO) -> int:
    digits = b""
    while (byte := file.read(1)) not in (b" ", b""):
        digits += byte
    return int(digits) if digits else 0


Server = TypeVar("Server", bound=socketserver.BaseServer)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve from a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def a_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1, and the certificate to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "siem.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "siem.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / "siem.key"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return context, pem
