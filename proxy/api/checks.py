"""What a request's headers must say before its body is read.

Each check looks at raw header values and refuses in doubt. None may echo one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from proxy.api.multipart import FORM_TYPE
from proxy.errors import RequestError

_JSON_TYPE: Final = re.compile(
    rb'application/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?', re.IGNORECASE
)
_HOST: Final = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

Headers = Sequence[tuple[bytes, bytes]]


def check_host(headers: Headers, allowed: frozenset[bytes]) -> None:
    """Refuse all but exactly one Host, from the list; a port is ignored.

    Raises:
        RequestError: ``invalid_host``.
    """
    hosts = [value for name, value in headers if name == b"host"]
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None or match.group(1).lower() not in allowed:
        raise RequestError("Send one Host header that this proxy answers to.", code="invalid_host")


class MethodNotAllowed(RequestError):
    """Another method than the one of the route."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Not allowed: use {allowed}.")
        self.allowed = allowed


def check_framing(headers: Headers, max_bytes: int) -> None:
    """Refuse doubtful framing, encoded bodies, and a body that says it is too long.

    Raises:
        RequestError: ``malformed_http``, ``unsupported_encoding`` (415), ``body_too_large`` (413).
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
        raise RequestError("Send one Content-Length or chunks.", code="malformed_http")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise RequestError("The Content-Length is not a number.", code="malformed_http")
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        raise RequestError(
            "Send the body without a Content-Encoding.",
            code="unsupported_encoding",
            http_status=415,
        )
    if not max_bytes and (codings or (lengths and int(lengths[0]))):
        raise RequestError("This route takes no body.", code="unexpected_body")
    if lengths and int(lengths[0]) > max_bytes:
        raise too_large(max_bytes)


def check_type(headers: Headers) -> None:
    """Refuse all but JSON in UTF-8.

    Raises:
        RequestError: ``unsupported_content_type`` (415).
    """
    _check_type(headers, _JSON_TYPE, "JSON as `Content-Type: application/json`, in UTF-8")


def check_form_type(headers: Headers) -> None:
    """Refuse all but a form.

    Raises:
        RequestError: ``unsupported_content_type`` (415).
    """
    _check_type(headers, FORM_TYPE, "a form as `Content-Type: multipart/form-data; boundary=…`")


def _check_type(headers: Headers, form: re.Pattern[bytes], wanted: str) -> None:
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or not form.fullmatch(types[0]):
        raise RequestError(f"Send {wanted}.", code="unsupported_content_type", http_status=415)


def too_large(max_bytes: int) -> RequestError:
    """The refusal of a body over the limit."""
    message = f"The request's body is larger than {max_bytes} bytes."
    return RequestError(message, code="body_too_large", http_status=413)
