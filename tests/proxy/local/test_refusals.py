"""What a client is told of a local endpoint's refusal: a known name or a sentence, nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from proxy.errors import LocalBackendError
from proxy.local.refusals import refusal
from proxy.types import JSONObject, Request
from tests.factories import a_request

CANARY = "canary-4711"
CHAT: JSONObject = {"model": "m", "messages": [], "tools": [], "max_tokens": 3, "canary-4711": 1}
RESPONSE: JSONObject = {"model": "m", "input": "hi", "text": {}, "max_output_tokens": 3}


def told(
    error: object, body: JSONObject = CHAT, status: int = 400, missing: str | None = None
) -> LocalBackendError:
    raw = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
    return refusal(status, raw, request_of(body), missing)


def request_of(body: JSONObject) -> Request:
    return replace(a_request(body), route="responses" if "input" in body else "chat.completions")


@pytest.mark.parametrize(
    ("param", "body", "named", "expected"),
    [
        ("tools", CHAT, "'tools'", "tools"),
        ("messages[0].content", CHAT, "'messages'", "messages"),
        ("tools.0", CHAT, "'tools'", "tools"),
        ("logprobs", CHAT, "'logprobs'", None),  # asked for by the proxy, not by the client
        ("messages", RESPONSE, "'input'", "input"),
        ("response_format", RESPONSE, "'text'", "text"),
        ("max_tokens", RESPONSE, "'max_output_tokens'", "max_output_tokens"),
    ],
)
def test_a_known_parameter_is_named_as_the_client_calls_it(
    param: str, body: JSONObject, named: str, expected: str | None
) -> None:
    fault = told({"message": CANARY, "param": param, "code": CANARY, "type": CANARY}, body)
    assert named in fault.public_message
    assert CANARY not in fault.public_message
    assert (fault.code, fault.param, fault.http_status) == ("unsupported_by_local", expected, 400)


@pytest.mark.parametrize(
    "error",
    [
        {"message": CANARY, "param": CANARY},
        {"message": CANARY, "param": f"tools{CANARY}"},
        {"param": ["tools"]},
        {"param": None},
        CANARY,
        [],
        b"",
        b"not json " + CANARY.encode(),
        b"[" * 100_000,
        b'{"error":{"param":"tools"},"error":{}}',
    ],
)
def test_nothing_else_of_a_refusal_is_told(error: object) -> None:
    fault = told(error)
    assert fault.public_message == "The local model cannot serve this request."
    assert (fault.code, fault.param, fault.unable) == ("unsupported_by_local", None, True)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": CANARY},
        {"code": 400, "type": "exceed_context_size_error", "message": CANARY},
        {"code": 400, "message": f"This model's maximum context length is 8 tokens. {CANARY}"},
    ],
)
@pytest.mark.parametrize(("body", "param"), [(CHAT, "messages"), (RESPONSE, "input")])
def test_a_request_that_is_too_long_has_the_code_that_clients_shorten_it_for(
    error: object, body: JSONObject, param: str
) -> None:
    fault = told(error, body)
    assert (fault.code, fault.param, fault.http_status) == ("context_length_exceeded", param, 400)
    assert fault.unable
    assert CANARY not in fault.public_message


def test_a_tier_that_is_down_or_missing_is_not_told_for_a_refusal() -> None:
    long = {"code": "context_length_exceeded", "param": "tools"}
    assert (told(long, status=503).unable, told(long, status=503).code) == (
        False,
        "local_unavailable",
    )
    assert told(long, status=404, missing="No sound here.").public_message == "No sound here."
