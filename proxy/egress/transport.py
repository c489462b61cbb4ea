"""The door: the only code in the project that sends bytes to a cloud destination.

A request passes when a `Permit` stands for exactly its bytes and its origin; everything else is
refused before a connection is made. The door follows no redirect, takes no proxy from the
environment, sends only the headers named here, and never retries. It must never be given a way
around the permit.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx2

from audit.errors import PermitRefused
from audit.permit import Permit
from audit.record import provider_id_or_other
from proxy import __version__
from proxy.errors import EgressDenied

#: Request headers that may leave, next to Host and Content-Length, which are made here.
ALLOWED_HEADERS: Final = frozenset({"authorization", "content-type", "accept"})

#: A longer answer is cut off and refused: it is no chat completion, and memory is bounded.
MAX_RESPONSE_BYTES: Final = 32 * 2**20


class ResponseTooLarge(httpx2.TransportError):
    """The destination sent more than `MAX_RESPONSE_BYTES`."""


class UnsupportedEncoding(httpx2.TransportError):
    """The destination compressed its answer although it was asked not to."""


class Attempt:
    """One attempt on the wire: its permit, and how far it came.

    Attributes:
        wrote: whether any byte of the request may have been written.
        bytes_received: size of the answer's body so far, in bytes.
        provider_request_id: the provider's own id of the request; ``other`` if of no known form.
    """

    def __init__(self, permit: Permit) -> None:
        self.permit = permit
        self.wrote = False
        self.bytes_received = 0
        self.provider_request_id: str | None = None

    async def trace(self, event: str, info: dict[str, object]) -> None:
        """Note the moment the connection begins to write (an httpcore2 trace callback)."""
        if event.endswith("send_request_headers.started"):
            self.wrote = True


class Door:
    """Opens connections to cloud destinations; shared by all attempts of a process."""

    def __init__(self, *, ca_file: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        self._wire = httpx2.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            retries=0,
            # An idle connection may be dead; sending on it would blur "one attempt, one intent".
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=0),
        )

    def transport(self, attempt: Attempt) -> httpx2.AsyncBaseTransport:
        """A transport that carries ``attempt``, once."""
        return _AttemptTransport(self._wire, attempt)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._wire.aclose()


class _AttemptTransport(httpx2.AsyncBaseTransport):
    def __init__(self, wire: httpx2.AsyncHTTPTransport, attempt: Attempt) -> None:
        self._wire = wire
        self._attempt = attempt

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        if request.method != "POST":
            raise EgressDenied("only POST leaves")
        refusal: str | None = None
        try:
            self._attempt.permit.redeem(body, origin_of(request.url))
        except PermitRefused as error:
            refusal = str(error)
        if refusal is not None:
            raise EgressDenied(refusal)
        response = await self._wire.handle_async_request(self._rebuilt(request, body))
        self._attempt.provider_request_id = provider_id_or_other(
            response.headers.get("x-request-id")
        )
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            await response.aclose()
            raise UnsupportedEncoding("compressed answer")
        return httpx2.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_Counted(response, self._attempt),
        )

    def _rebuilt(self, request: httpx2.Request, body: bytes) -> httpx2.Request:
        headers = {k: v for k, v in request.headers.items() if k.lower() in ALLOWED_HEADERS}
        headers["user-agent"] = f"ringfence/{__version__}"
        headers["accept-encoding"] = "identity"
        timeout = request.extensions.get("timeout", {})
        return httpx2.Request(
            "POST",
            request.url,
            headers=headers,
            content=body,
            extensions={"timeout": timeout, "trace": self._attempt.trace},
        )


class _Counted(httpx2.AsyncByteStream):
    """The answer's bytes, counted and bounded."""

    def __init__(self, response: httpx2.Response, attempt: Attempt) -> None:
        self._response = response
        self._attempt = attempt

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_raw():
            self._attempt.bytes_received += len(chunk)
            if self._attempt.bytes_received > MAX_RESPONSE_BYTES:
                raise ResponseTooLarge("answer too large")
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def origin_of(url: httpx2.URL | str) -> str:
    """``scheme://host:port`` of a URL, lower case, port always named.

    Raises:
        EgressDenied: the URL is not http(s), or holds a user name.
    """
    url = httpx2.URL(url)
    if url.scheme not in ("http", "https") or url.userinfo or not url.host:
        raise EgressDenied("not a destination")
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    return f"{url.scheme}://{url.host.lower()}:{port}"
