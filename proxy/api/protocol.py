"""What must be refused on the connection itself, because ASGI no longer shows it.

uvicorn's httptools protocol accepts absolute-form targets, fragments, HTTP/0.9, protocol upgrades
and heads without a size or time limit. Each is refused here with a 400-class answer in OpenAI's
form, and the connection is closed. It must never log a byte of what came in.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.api.reply import fault_reply
from proxy.errors import ProxyError, RequestError

log = structlog.get_logger()

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
MAX_CONNECTIONS: Final = 1024
#: From the first byte of a request to the end of its head; nginx's client_header_timeout is 60.
HEAD_TIMEOUT_S: Final = 10.0
#: How long a client may leave an answer unread before the connection is dropped.
WRITE_TIMEOUT_S: Final = 60.0

#: Origin form (RFC 9112, section 3.2.1), in visible ASCII and without a fragment.
_TARGET: Final = re.compile(rb"/[!-\"$-~]*")


class HeadTooLarge(RequestError):
    """More header bytes or lines than any client needs."""

    code = "headers_too_large"
    http_status = 431


class HeadTimeout(RequestError):
    """The head of a request did not arrive in time."""

    code = "request_timeout"
    http_status = 408


class Overloaded(ProxyError):
    """More connections or requests at once than the proxy takes."""

    code = "overloaded"
    http_status = 503


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's protocol over llhttp, with the gaps closed.

    Attributes:
        max_connections, head_timeout_s, write_timeout_s: limits, of the class.
    """

    max_connections = MAX_CONNECTIONS
    head_timeout_s = HEAD_TIMEOUT_S
    write_timeout_s = WRITE_TIMEOUT_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_head_bytes = 0
        self._in_head = True
        self._fault: RequestError | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(Overloaded("The proxy has too many connections."))
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and count what belongs to a head."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self._num_head_bytes += len(data)
            if self._head_timer is None:
                self._start_head_timer()
        super().data_received(data)
        if self._in_head and self._num_head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge("The request's headers are too large."))

    def on_url(self, url: bytes) -> None:
        """Take a part of the target, as long as it can still be one."""
        super().on_url(url)
        if len(self.url) > MAX_HEAD_BYTES:
            self._stop(HeadTooLarge("The request's target is too large."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, as long as they are few. A trailer would be taken for one: refused."""
        if not self._in_head:
            self._stop(RequestError("Trailers are not taken.", code="malformed_http"))
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._stop(HeadTooLarge("The request has too many headers."))

    def on_headers_complete(self) -> None:
        """Refuse what ASGI would not show, then start the request."""
        self._in_head = False
        self._num_head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._stop(HeadTooLarge("The request's headers are too large."))
        if self.parser.get_http_version() != "1.1":
            self._stop(RequestError("Use HTTP/1.1.", code="malformed_http"))
        if not _TARGET.fullmatch(self.url):
            self._stop(RequestError("Send the path of the URL only.", code="malformed_http"))
        if self.parser.should_upgrade() or any(name == b"upgrade" for name, _ in self.headers):
            self._stop(RequestError("Protocol upgrades are not offered.", code="malformed_http"))
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next byte starts a head again."""
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, in OpenAI's form."""
        self._refuse(self._fault or RequestError("The request is not valid HTTP/1.1."))

    def pause_writing(self) -> None:
        """Note that the client does not read; drop it when it goes on for too long."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_timed_out)

    def _head_timed_out(self) -> None:
        if self._num_head_bytes:
            self._refuse(HeadTimeout("The request's headers did not arrive in time."))
        elif not self.transport.is_closing():
            self.transport.close()

    def _stop(self, fault: RequestError) -> None:
        """End the parsing from within a callback; `send_400_response` then tells the client."""
        self._fault = fault
        raise httptools.HttpParserError("refused")

    def _refuse(self, fault: ProxyError) -> None:
        """Answer once and close; only close where the answer would look like another request's."""
        if self.transport.is_closing():
            return
        code = "malformed_http" if fault.code == RequestError.code else fault.code
        log.warning("connection_refused", code=code, http_status=fault.http_status)
        cycle = self.cycle
        is_busy = cycle is not None and not cycle.response_complete
        if not is_busy or (cycle.more_body and not cycle.response_started):
            reply = fault_reply(type(fault)(fault.public_message, code=code))
            head = [b"HTTP/1.1 %d Refused\r\nconnection: close\r\n" % fault.http_status]
            head += [name + b": " + value + b"\r\n" for name, value in reply.raw_headers]
            self.transport.write(b"".join([*head, b"\r\n", bytes(reply.body)]))
        self.transport.close()
