"""The connections to a SIEM: the one module of the ledger that opens any.

The destination is the operator's, who starts `ringfence audit forward` with it; no request, policy
or record names one. No proxy is taken from the environment and no redirect followed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

from audit.errors import AuditError
from audit.siem.forms import counted, json_lines, otlp_logs, syslog_message
from audit.siem.source import Item

#: Longest wait for a connection or an answer, in seconds.
TIMEOUT_S: Final = 10.0

_HOST: Final = re.compile(r"[!-~]{1,255}")
_MAX_ANSWER: Final = 64 * 1024


class WireDown(AuditError):
    """The destination did not take what was sent; it is sent again."""

    code = "wire_down"


class BadDestination(AuditError):
    """The destination's URL is none that can be forwarded to."""

    code = "bad_destination"


class Wire(Protocol):
    """A way to a SIEM."""

    def send(self, items: Sequence[Item]) -> int:
        """Send ``items``; returns how many of them the destination said it refuses for good.

        Raises:
            WireDown: they did not arrive, or it is not known whether they did.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def open_wire(url: str, ca_file: Path | None = None, authorization: str | None = None) -> Wire:
    """The wire to ``url``; nothing is connected before the first `Wire.send`.

    Args:
        url: ``syslog+tls://``, ``syslog+tcp://``, ``syslog+udp://``, ``otlp+https://``,
            ``otlp+http://``, ``https://`` or ``http://``.
        ca_file: the certificate authority to trust, in place of the system's.
        authorization: the value of the HTTP header of that name.

    Raises:
        BadDestination: it is another URL.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    kind, _, under = parts.scheme.rpartition("+")
    if parts.hostname is None or port == -1 or parts.username is not None or parts.fragment:
        raise BadDestination("a destination is kind://host:port/path, without a user in it")
    if kind == "syslog" and under in ("tls", "tcp", "udp"):
        place = (parts.hostname, port or (6514 if under == "tls" else 514))
        if under == "udp":
            return _Datagrams(place)
        return _Stream(place, _context(ca_file) if under == "tls" else None)
    if kind in ("", "otlp") and under in ("https", "http"):
        context = _context(ca_file) if under == "https" else None
        return _Posts(parts, port, (context, authorization), is_otlp=kind == "otlp")
    raise BadDestination("a destination begins with syslog+tls://, otlp+https://, https:// …")


def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _host_name() -> str:
    name = socket.gethostname()
    return name if _HOST.fullmatch(name) else "-"


class _Datagrams:
    """Syslog over UDP (RFC 5426): nobody says whether a message arrived."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._place = place
        self._host = _host_name()

    def send(self, items: Sequence[Item]) -> int:
        """Hand each message to the network."""
        with _faults():
            family = socket.getaddrinfo(*self._place, type=socket.SOCK_DGRAM)[0][0]
            with socket.socket(family, socket.SOCK_DGRAM) as wire:
                wire.settimeout(TIMEOUT_S)
                for item in items:
                    wire.sendto(syslog_message(item, self._host), self._place)
        return 0

    def close(self) -> None:
        """There is no connection."""


class _Stream:
    """Syslog over TCP (RFC 6587) or TLS (RFC 5425), framed by octet counting."""

    def __init__(self, place: tuple[str, int], context: ssl.SSLContext | None) -> None:
        self._place = place
        self._context = context
        self._host = _host_name()
        self._wire: socket.socket | None = None

    def send(self, items: Sequence[Item]) -> int:
        """Send all of ``items``. The protocol has no answer: a receiver that had closed the
        connection before is noticed, one that dies afterwards is not.
        """
        data = b"".join(counted(syslog_message(item, self._host)) for item in items)
        try:
            with _faults():
                wire = self._wire = self._wire or self._connect()
                if _has_closed(wire):
                    raise ConnectionResetError
                wire.sendall(data)
        except WireDown:
            self.close()
            raise
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            with contextlib.suppress(OSError):
                wire.close()

    def _connect(self) -> socket.socket:
        wire = socket.create_connection(self._place, TIMEOUT_S)
        if self._context is None:
            return wire
        try:
            return self._context.wrap_socket(wire, server_hostname=self._place[0])
        except OSError:
            wire.close()
            raise


class _Posts:
    """HTTP: OTLP logs, or lines of JSON. An answer of 2xx is the receipt."""

    def __init__(
        self,
        parts: SplitResult,
        port: int | None,
        secrets: tuple[ssl.SSLContext | None, str | None],
        *,
        is_otlp: bool,
    ) -> None:
        self._place = (parts.hostname or "", port)
        path = parts.path or ("/v1/logs" if is_otlp else "/")
        self._path = f"{path}?{parts.query}" if parts.query else path
        self._context, authorization = secrets
        self._is_otlp = is_otlp
        kind = "application/json" if is_otlp else "application/x-ndjson"
        self._headers = {"Content-Type": kind, "User-Agent": "ringfence"}
        if authorization is not None:
            self._headers["Authorization"] = authorization

    def send(self, items: Sequence[Item]) -> int:
        """Post ``items`` and wait for the receipt."""
        body = otlp_logs(items) if self._is_otlp else json_lines(items)
        with _faults(), contextlib.closing(self._connection()) as wire:
            wire.request("POST", self._path, body, self._headers)
            answer = wire.getresponse()
            if not 200 <= answer.status < 300:
                raise WireDown(f"HTTP {answer.status}")
            return _refused(answer.read(_MAX_ANSWER)) if self._is_otlp else 0

    def close(self) -> None:
        """Each request has a connection of its own."""

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._place
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def _refused(answer: bytes) -> int:
    """Log records that an OTLP receiver refused for good; they must not be sent again (OTLP 1.7,
    section "Partial Success").
    """
    try:
        return int(json.loads(answer)["partialSuccess"]["rejectedLogRecords"])
    except (ValueError, KeyError, TypeError):
        return 0


def _has_closed(wire: socket.socket) -> bool:
    """Whether the other side has ended a connection on which it never speaks."""
    wire.settimeout(0.0)
    try:
        return wire.recv(1024) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        wire.settimeout(TIMEOUT_S)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Turn a fault of the network into a `WireDown` that names its kind, never what was sent."""
    problem = ""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        problem = type(error).__name__
    if problem:
        raise WireDown(problem)
