"""The lines of a batch: read strictly from its file, and told in the form of its two results.

Pure. A line that is no line of a batch fails the whole batch before any is answered; what is wrong
with the request in it is that line's own error, as it would be live. Nothing echoes a line.

Source: platform.openai.com/docs/api-reference/batch/request-input and request-output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from proxy.api.batch import LineError
from proxy.api.wire import read_json
from proxy.errors import RequestError
from proxy.ids import new_id
from proxy.routes.chat import CHAT
from proxy.routes.completions import COMPLETIONS
from proxy.routes.embeddings import EMBEDDINGS
from proxy.routes.moderations import MODERATIONS
from proxy.routes.responses import RESPONSES
from proxy.routes.route import ApiRoute
from proxy.routes.sse import one_line
from proxy.types import JSON, JSONObject

#: The routes that a batch may ask, by OpenAI's name for them.
ENDPOINTS: Final = {
    f"/v1{route.path}": route for route in (CHAT, COMPLETIONS, EMBEDDINGS, MODERATIONS, RESPONSES)
}
#: OpenAI's limit.
MAX_LINES: Final = 50_000
MAX_ID_CHARS: Final = 512
#: Faults that a batch tells of; more would not help.
MAX_ERRORS: Final = 100

_MEMBERS: Final = frozenset({"custom_id", "method", "url", "body"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a line is held to, as a live request is."""

    max_bytes: int
    max_depth: int


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch."""

    custom_id: str = field(repr=False)
    body: JSONObject = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a file that was read once without a fault; blank ones do not count."""

    content: bytes = field(repr=False)
    spans: tuple[tuple[int, int], ...] = field(repr=False)
    endpoint: str
    limits: Limits

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Line:
        start, end = self.spans[index]
        return _read(self.content[start:end], self.endpoint, self.limits)


def read_lines(content: bytes, endpoint: str, limits: Limits) -> Lines | tuple[LineError, ...]:
    """Read every line, and keep where they stand; or say what is wrong with them."""
    spans: list[tuple[int, int]] = []
    errors: list[LineError] = []
    seen: dict[str, int] = {}
    for number, (start, end) in enumerate(_spans(content), 1):
        if not content[start:end].strip():
            continue
        if len(spans) == MAX_LINES:
            message = f"A batch may hold {MAX_LINES} requests."
            errors.append(LineError("too_many_requests", message, number))
            break
        spans.append((start, end))
        try:
            line = _read(content[start:end], endpoint, limits)
        except RequestError as error:
            errors.append(LineError(error.code, error.public_message, number, error.param))
        else:
            if seen.setdefault(line.custom_id, number) != number:
                message = f"The custom_id stands in line {seen[line.custom_id]} as well."
                errors.append(LineError("duplicate_custom_id", message, number, "custom_id"))
        if len(errors) == MAX_ERRORS:
            break
    if not spans:
        errors.append(LineError("empty_file", "The file holds no requests."))
    return tuple(errors) if errors else Lines(content, tuple(spans), endpoint, limits)


def _spans(content: bytes) -> list[tuple[int, int]]:
    """Where each line begins and ends; only LF and CR LF end a line."""
    spans, start = [], 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        spans.append((start, end))
        start = end + 1
    return spans


def _read(raw: bytes, endpoint: str, limits: Limits) -> Line:
    if len(raw) > limits.max_bytes:
        message = f"The line is larger than {limits.max_bytes} bytes."
        raise RequestError(message, code="body_too_large")
    line = read_json(raw, max_depth=limits.max_depth)
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_ID_CHARS:
        message = f"'custom_id' must be a string of 1 to {MAX_ID_CHARS} characters."
        raise RequestError(message, code="invalid_custom_id", param="custom_id")
    if line.get("method") != "POST":
        raise RequestError("'method' must be POST.", code="invalid_method", param="method")
    if line.get("url") != endpoint:
        message = "'url' must be the endpoint of the batch."
        raise RequestError(message, code="mismatched_endpoint", param="url")
    if not isinstance(body, dict):
        raise RequestError("'body' must be an object.", code="invalid_body", param="body")
    if not line.keys() <= _MEMBERS:
        message = "A line may hold 'custom_id', 'method', 'url' and 'body', and nothing else."
        raise RequestError(message, code="unsupported_parameter")
    return Line(custom_id, body)


def route_of(endpoint: str) -> ApiRoute:
    """The route that a batch asks."""
    return ENDPOINTS[endpoint]


def answered(
    custom_id: str, status: int, body: JSONObject, request_id: str, decision_id: str | None
) -> dict[str, Any]:
    """The result of a line that was answered, well or with an error of HTTP."""
    response: JSONObject = {
        "status_code": status,
        "request_id": request_id,
        "decision_id": decision_id,
        "body": body,
    }
    return _result(custom_id, response, None)


def not_answered(custom_id: str, code: str, message: str) -> dict[str, Any]:
    """The result of a line that got no answer."""
    return _result(custom_id, None, {"code": code, "message": message})


def interrupted(custom_id: str, request_id: str) -> dict[str, Any]:
    """The result of a line that was under way when the proxy ended: it may have left."""
    message = (
        "The proxy ended while this line was being answered, so it was not asked again. "
        f"Its request id is {request_id}: the ledger says whether it left."
    )
    return not_answered(custom_id, "interrupted", message)


def told(results: list[dict[str, Any]]) -> bytes:
    """Results as the lines of a file."""
    return b"".join(one_line(one) + b"\n" for one in results)


def tokens_of(body: JSONObject) -> tuple[int, int]:
    """The tokens in and out of an answer, by either of OpenAI's names."""
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return (
        _count(counts.get("input_tokens", counts.get("prompt_tokens"))),
        _count(counts.get("output_tokens", counts.get("completion_tokens"))),
    )


def _count(value: JSON) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _result(custom_id: str, response: JSON, error: JSON) -> dict[str, Any]:
    return {
        "id": new_id("batch_req"),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
