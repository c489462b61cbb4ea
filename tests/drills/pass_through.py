"""Leaky proxies, for controls: all that they get goes on, as it came or in another writing."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

#: How each passes a body on: its new bytes and more headers.
Rewrite = Callable[[bytes], tuple[bytes, dict[str, str]]]


def _escaped(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Read and written again, all but ASCII escaped, laid out."""
    return json.dumps(json.loads(body), indent=1, sort_keys=True).encode(), {}


def _wrapped(body: bytes) -> tuple[bytes, dict[str, str]]:
    """As a string within another document."""
    return json.dumps({"request": body.decode()}).encode(), {}


WRITINGS: Mapping[str, Rewrite] = {
    "as it came": lambda body: (body, {}),
    "written again": _escaped,
    "wrapped": _wrapped,
    "compressed": lambda body: (gzip.compress(body), {"content-encoding": "gzip"}),
}

_KEPT = ("content-type", "authorization", "x-note", "user-agent")


@contextmanager
def pass_through(upstream: str, writing: str = "as it came") -> Iterator[str]:
    """A proxy that inspects nothing, in front of ``upstream``; gives its root without /v1."""
    rewrite = WRITINGS[writing]
    wire = httpx2.Client(trust_env=False, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            is_form = self.headers.get("content-type", "").startswith("multipart/")
            self._on("POST", *((body, {}) if is_form else rewrite(body)))

        def do_GET(self) -> None:
            self._on("GET", b"", {})

        do_DELETE = do_GET

        def _on(self, method: str, body: bytes, more: dict[str, str]) -> None:
            headers = {name: said for name in _KEPT if (said := self.headers.get(name))} | more
            url = upstream.removesuffix("/v1") + self.path
            got = wire.request(method, url, content=body, headers=headers)
            self.send_response(got.status_code)
            self.send_header("content-type", got.headers.get("content-type", ""))
            self.send_header("content-length", str(len(got.content)))
            self.end_headers()
            self.wfile.write(got.content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        wire.close()
