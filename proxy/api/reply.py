"""Answers in OpenAI's JSON form, for every layer of the front door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response as HttpResponse

from audit.errors import AuditError
from proxy.canonical import canonical_bytes
from proxy.errors import ProxyError, error_body
from proxy.routes.route import Raw
from proxy.types import JSONObject

AUDIT_MESSAGE: Final = "The request could not be recorded, so it was not answered."
FAULT_MESSAGE: Final = "The proxy had an internal error; quote the request id when you report it."

#: Headers that some statuses need (RFC 9110, sections 11.6.1 and 10.2.3).
_STATUS_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"www-authenticate": "Bearer"},
    503: {"retry-after": "1"},
}


def json_reply(
    status: int, body: JSONObject, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """An answer of JSON."""
    merged = {**_STATUS_HEADERS.get(status, {}), **(headers or {})}
    return HttpResponse(
        canonical_bytes(body), status, media_type="application/json", headers=merged
    )


def raw_reply(raw: Raw, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """An answer of bytes."""
    return HttpResponse(raw.content, 200, media_type=raw.media_type, headers=dict(headers or {}))


def fault_body(error: BaseException) -> tuple[int, dict[str, dict[str, str | None]]]:
    """Status and OpenAI error of any exception; one that is not ours says nothing of itself."""
    if isinstance(error, ProxyError):
        body = error_body(
            error.public_message, error_type=error.error_type, code=error.code, param=error.param
        )
        return error.http_status, body
    if isinstance(error, AuditError):
        return 503, error_body(AUDIT_MESSAGE, error_type="server_error", code=error.code)
    return 500, error_body(FAULT_MESSAGE, error_type="server_error", code="internal_error")


def fault_reply(error: BaseException, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """The answer to a request that ended in ``error``."""
    status, body = fault_body(error)
    return json_reply(status, body, headers)
