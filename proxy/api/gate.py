"""The first gate: what is not plainly one of our requests ends here, its body unread.

Host, path, method, caller, framing and type are checked on the raw values before a byte of the
body is taken; then the body is taken whole, under a limit of size and time. It must never build a
URL from what a client sent, redirect, or log a path, a query or a header.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.requests import Request as HttpRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.api.auth import Key, KeyTable
from proxy.api.checks import (
    Headers,
    MethodNotAllowed,
    check_form_type,
    check_framing,
    check_host,
    check_type,
    too_large,
)
from proxy.api.headers import DECISION_ID, REQUEST_ID
from proxy.api.protocol import Overloaded
from proxy.api.reply import fault_reply
from proxy.errors import ProxyError, RequestError
from proxy.ids import new_id
from proxy.metrics import Metrics
from proxy.routes.registry import ROUTES
from proxy.turns import Room
from proxy.types import Caller

log = structlog.get_logger()

#: Requests at once. Where there are many keys, one of them has at most half.
MAX_CONCURRENT: Final = 512
#: Bodies in memory, all requests together, likewise: many large ones must not end the process.
MAX_BUFFERED_BYTES: Final = 256 * 2**20
BODY_TIMEOUT_S: Final = 60.0
#: A form of sound or pictures: OpenAI's limit on a recording (docs/guides/speech-to-text).
MAX_MEDIA_BYTES: Final = 25 * 2**20
#: What the form around a file may take.
FORM_BYTES: Final = 64 * 1024
#: What watches the proxy: quiet in the log while well, and let in when there is no room.
_PROBES: Final = ("healthz", "readyz", "metrics")
#: How long an answer that leaves a body unread waits for the client to take notice of it.
LINGER_S: Final = 1.0


class Body(enum.Enum):
    """What a route takes as its body."""

    NONE = "none"
    JSON = "json"
    FORM = "form"  # a file in a form
    MEDIA = "media"  # sound or pictures in a form

    @property
    def is_form(self) -> bool:
        """Whether it is a form."""
        return self in (Body.FORM, Body.MEDIA)


@dataclass(frozen=True, slots=True)
class Door:
    """A route as the gate knows it: its raw path, its one method, and what it asks for."""

    name: str
    path: re.Pattern[bytes]
    method: str
    needs_key: bool = True
    takes: Body = Body.NONE


_MODEL: Final = rb"[A-Za-z0-9][A-Za-z0-9._:-]*"
_ID: Final = rb"[A-Za-z0-9_-]{1,64}"
DOORS: Final = (
    *(
        Door(
            route.name,
            re.compile(re.escape(f"/v1{route.path}".encode())),
            "POST",
            takes=Body.JSON if route.form is None else Body.MEDIA,
        )
        for route in ROUTES.values()
    ),
    Door("responses.one", re.compile(rb"/v1/responses/%b" % _ID), "GET"),
    Door("responses.delete", re.compile(rb"/v1/responses/%b" % _ID), "DELETE"),
    Door("responses.cancel", re.compile(rb"/v1/responses/%b/cancel" % _ID), "POST"),
    Door("responses.input_items", re.compile(rb"/v1/responses/%b/input_items" % _ID), "GET"),
    Door("files", re.compile(rb"/v1/files"), "GET"),
    Door("files.create", re.compile(rb"/v1/files"), "POST", takes=Body.FORM),
    Door("files.one", re.compile(rb"/v1/files/%b" % _ID), "GET"),
    Door("files.delete", re.compile(rb"/v1/files/%b" % _ID), "DELETE"),
    Door("files.content", re.compile(rb"/v1/files/%b/content" % _ID), "GET"),
    Door("batches", re.compile(rb"/v1/batches"), "GET"),
    Door("batches.create", re.compile(rb"/v1/batches"), "POST", takes=Body.JSON),
    Door("batches.one", re.compile(rb"/v1/batches/%b" % _ID), "GET"),
    Door("batches.cancel", re.compile(rb"/v1/batches/%b/cancel" % _ID), "POST"),
    Door("models", re.compile(rb"/v1/models"), "GET"),
    Door("models.one", re.compile(rb"/v1/models/%b(?:(?:/|%%2F)%b)?" % (_MODEL, _MODEL)), "GET"),
    Door("openapi", re.compile(rb"/openapi\.json"), "GET"),
    Door("healthz", re.compile(rb"/healthz"), "GET", needs_key=False),
    Door("readyz", re.compile(rb"/readyz"), "GET", needs_key=False),
    Door("metrics", re.compile(rb"/metrics"), "GET"),
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the gate found out, for the routes behind it (``scope["state"]["ticket"]``)."""

    request_id: str
    key: Key | None


def caller_of(http: HttpRequest) -> Caller:
    """Whose request this is, as the gate found out."""
    ticket: Ticket = http.scope["state"]["ticket"]
    if ticket.key is None:
        raise ProxyError("The gate let a request in without a caller.")
    return ticket.key.caller


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gate holds requests to."""

    max_body_bytes: int
    max_file_bytes: int
    max_media_bytes: int = MAX_MEDIA_BYTES
    body_timeout_s: float = BODY_TIMEOUT_S
    max_concurrent: int = MAX_CONCURRENT
    max_buffered_bytes: int = MAX_BUFFERED_BYTES

    def for_body(self, takes: Body) -> int:
        """Most bytes of a body; a file may be as large as it may be, in its form."""
        return {
            Body.NONE: 0,
            Body.JSON: self.max_body_bytes,
            Body.FORM: self.max_file_bytes + FORM_BYTES,
            Body.MEDIA: self.max_media_bytes,
        }[takes]


class Gate:
    """ASGI middleware in front of everything."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Sequence[str],
        keys: KeyTable,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = frozenset(host.lower().encode("ascii") for host in allowed_hosts)
        self._keys = keys
        self._limits = limits
        self._num_running = 0
        shared = not keys.is_open
        self._room = Room(limits.max_concurrent, shared=shared)
        self._memory = Room(limits.max_buffered_bytes, shared=shared)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit(send)
        self._num_running += 1
        try:
            await self._let_in(scope, receive, visit)
        except _ClientGone:
            log.info("client_gone", request_id=visit.request_id)
        except ProxyError as error:
            self._let_go_of_body(visit)
            await _turn_away(error, scope, receive, visit)
        except Exception as error:  # noqa: BLE001  (the outermost boundary: nothing may reach uvicorn)
            log.error("request_failed", request_id=visit.request_id, error=type(error).__name__)
            if not visit.status:
                await fault_reply(error)(scope, receive, visit.send)
        finally:
            self._num_running -= 1
            self._let_go_of_body(visit)
            if visit.holds_room:
                self._room.give_back(visit.caller)
            visit.log_line(scope["method"])
            self._metrics.answered_http(visit.door, visit.status)

    async def _let_in(self, scope: Scope, receive: Receive, visit: _Visit) -> None:
        headers: Headers = scope["headers"]
        check_host(headers, self._hosts)
        door = find_door(scope, visit)
        if self._num_running > self._limits.max_concurrent and door.name not in _PROBES:
            raise Overloaded("The proxy has too many requests at once.")
        key = self._keys.authenticate(headers) if door.needs_key else None
        if key is not None and door.name not in _PROBES:
            visit.caller = key.caller.key_id
            visit.holds_room = self._room.take(visit.caller)
            if not visit.holds_room:
                raise Overloaded("This API key has too many requests at once.")
        max_bytes = self._limits.for_body(door.takes)
        check_framing(headers, max_bytes)
        body = b""
        if max_bytes:
            (check_form_type if door.takes.is_form else check_type)(headers)
            body = await self._take_body(receive, max_bytes, visit)
        scope.setdefault("state", {})["ticket"] = Ticket(visit.request_id, key)
        await self._app(scope, _replay(body, receive), visit.send)

    def _let_go_of_body(self, visit: _Visit) -> None:
        self._memory.give_back(visit.caller, visit.num_body_bytes)
        visit.num_body_bytes = 0

    async def _take_body(self, receive: Receive, max_bytes: int, visit: _Visit) -> bytes:
        chunks: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in _pieces(receive):
                    if visit.num_body_bytes + len(chunk) > max_bytes:
                        raise too_large(max_bytes)
                    if not self._memory.take(visit.caller, len(chunk)):
                        raise Overloaded("This API key has too many large requests at once.")
                    visit.num_body_bytes += len(chunk)
                    chunks.append(chunk)
                return b"".join(chunks)
        raise RequestError(
            "The request's body did not arrive in time.", code="request_timeout", http_status=408
        )


class _Visit:
    """One request at the gate: its id, its status, its line in the log."""

    def __init__(self, send: Send) -> None:
        self.request_id = new_id("req")
        self.door = "other"
        self.status = 0
        self.caller = ""  # the id of its key, once known
        self.holds_room = False
        self.num_body_bytes = 0
        self._decision_id: str | None = None
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Pass a message on; the head of the answer gets what every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            self._decision_id = dict(headers).get(DECISION_ID.encode(), b"").decode() or None
            headers += [
                (REQUEST_ID.encode(), self.request_id.encode()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
            ]
            message = {**message, "headers": headers}
        await self._send(message)

    def log_line(self, method: str) -> None:
        """The canonical line of this request; path, query and headers have no place in it."""
        # Probes come every few seconds, and say something only when they fail.
        say = log.debug if self.door in _PROBES and self.status == 200 else log.info
        say(
            "http",
            request_id=self.request_id,
            decision_id=self._decision_id,
            method=method if method in ("GET", "POST") else "other",
            route=self.door,
            http_status=self.status,
            elapsed_ms=round((time.perf_counter() - self._started) * 1000, 1),
        )


def find_door(scope: Scope, visit: _Visit) -> Door:
    """The route whose path is this raw path, byte for byte, and whose method is this one.

    Raises:
        RequestError: ``unknown_url`` (404) or ``method_not_allowed`` (405).
    """
    if scope["http_version"] != "1.1":
        raise RequestError("Use HTTP/1.1.", code="malformed_http")
    here = [door for door in DOORS if door.path.fullmatch(scope.get("raw_path") or b"")]
    for door in here:
        visit.door = door.name
        if scope["method"] == door.method:
            return door
    if here:
        raise MethodNotAllowed(", ".join(door.method for door in here))
    raise RequestError("Unknown request URL.", code="unknown_url", http_status=404)


class _ClientGone(Exception):
    """The client left before its body was complete; there is nobody to answer."""


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _ClientGone
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replayed() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replayed


async def _turn_away(error: ProxyError, scope: Scope, receive: Receive, visit: _Visit) -> None:
    """Answer and close. The answer is whole before the rest of the body is waited for, briefly:

    a connection that is closed on unread bytes is reset, which can take the answer with it.
    """
    headers = {"connection": "close"}
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    reply = fault_reply(error, headers)
    start = {"type": "http.response.start", "status": reply.status_code}
    await visit.send({**start, "headers": reply.raw_headers})
    await visit.send({"type": "http.response.body", "body": bytes(reply.body), "more_body": True})
    if _has_body(scope["headers"]):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await _drain(receive)
    await visit.send({"type": "http.response.body", "body": b"", "more_body": False})


def _has_body(headers: Headers) -> bool:
    names = (b"content-length", b"transfer-encoding")
    return any(name in names and value != b"0" for name, value in headers)


async def _drain(receive: Receive) -> None:
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
