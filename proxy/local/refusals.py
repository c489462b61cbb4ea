"""What a local endpoint's refusal tells the client: which parameter, or that it is too long.

An endpoint may put any text into its error, the user's too, so none of it is passed on: a name is
told only if it is on our list, and all else is one of the sentences below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.canonical import parse_object
from proxy.errors import LocalBackendError, RequestError
from proxy.local.wishes import REFUSED
from proxy.types import JSONObject, Request

#: Statuses that say "not this request", as against "not now".
UNABLE: Final = frozenset({400, 404, 413, 415, 422})
#: Statuses that say that there is no such route, or no such model.
_MISSING: Final = frozenset({404, 405, 501})

#: The parameters that may be named.
_NAMES: Final = frozenset(REFUSED) | frozenset(
    "dimensions input logprobs max_completion_tokens max_tokens messages n prompt seed stop "
    "stream temperature top_logprobs top_p".split()
)
#: What the local tier is asked for in other words than the client used.
_CALLED: Final[Mapping[str, str]] = {
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning",
    "response_format": "text",
    "verbosity": "text",
}
_HOLDS_TEXT: Final = ("messages", "input", "prompt")

#: How servers say that a request is too long.
#: Source: OpenAI's code, which ours gives as well; llama.cpp's type (tools/server); what the
#: messages of OpenAI, vLLM and SGLang begin with.
_TOO_LONG_WORDS: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG_TEXT: Final = re.compile(r"maximum context length|model's context length")


def refusal(status: int, body: bytes, request: Request, missing: str | None) -> LocalBackendError:
    """The fault that stands for an answer with another status than 200.

    Args:
        status: what the endpoint answered with.
        body: what it said.
        request: what the client wants.
        missing: what the client is told where there is no such route or model.
    """
    if status in _MISSING and missing is not None:
        return LocalBackendError(missing, unable=True)
    if status not in UNABLE:
        return LocalBackendError(f"The local model answered with status {status}.")
    told = _error_in(body)
    if _is_too_long(told):
        return LocalBackendError(
            "The request, with the answer it wants, is longer than the local model's maximum "
            "context length.",
            unable=True,
            code="context_length_exceeded",
            param=next((name for name in _HOLDS_TEXT if name in request.body), None),
        )
    name = _name_in(told)
    if name is None:
        return LocalBackendError("The local model cannot serve this request.", unable=True)
    called = name if name in request.body else _CALLED.get(name)
    return LocalBackendError(
        f"The local model cannot serve this use of '{called or name}'.",
        unable=True,
        param=called if called in request.body else None,
    )


def _error_in(body: bytes) -> JSONObject:
    try:
        told = parse_object(body).get("error")
    except RequestError:
        return {}
    return told if isinstance(told, dict) else {}


def _is_too_long(told: JSONObject) -> bool:
    words = (told.get("code"), told.get("type"))
    message = told.get("message")
    return any(isinstance(word, str) and word in _TOO_LONG_WORDS for word in words) or (
        isinstance(message, str) and _TOO_LONG_TEXT.search(message) is not None
    )


def _name_in(told: JSONObject) -> str | None:
    """The parameter that a refusal names, without the path behind it."""
    param = told.get("param")
    name = re.split(r"[.\[]", param, maxsplit=1)[0] if isinstance(param, str) else None
    return name if name in _NAMES else None
