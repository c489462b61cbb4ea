"""What servers give of log-probabilities, against servers with the faults known from the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.probe import Abilities, Given, Reply, probe_abilities
from proxy.types import JSONObject
from tests.factories import a_body, a_request
from tests.proxy.local.test_openai_http import an_answer, endpoint, logprobs_of

Server = Callable[[JSONObject], Reply]


def reply(logprobs: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(an_answer(logprobs)).encode())


def entries(body: JSONObject, values: tuple[float, ...] = (-0.5, -1.0)) -> dict[str, Any] | None:
    if not body.get("logprobs"):
        return None
    content = logprobs_of(*values)["content"]
    if body.get("top_logprobs"):
        top = [{"token": "x", "logprob": -0.5}, {"token": "y", "logprob": -2.0}]
        content = [{**one, "top_logprobs": top} for one in content]
    return {"content": content}


def streamed(body: JSONObject) -> Reply:
    told = entries(body)
    content = told["content"] if told else [None, None]
    events = [
        {"choices": [{"delta": {}, "logprobs": {"content": [one]} if one else None}]}
        for one in content
    ]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return Reply(200, "".join([*lines, "data: [DONE]\n\n"]).encode())


def good(body: JSONObject) -> Reply:
    return streamed(body) if body.get("stream") else reply(entries(body))


def refuses_tools_and_logprobs(body: JSONObject) -> Reply:
    return reply(None, 400) if body.get("tools") and body.get("logprobs") else good(body)


def refuses_tools(body: JSONObject) -> Reply:
    return reply(None, 400) if body.get("tools") else good(body)


def refuses_alternatives(body: JSONObject) -> Reply:
    return reply(None, 422) if body.get("top_logprobs") else good(body)


def refuses_logprobs(body: JSONObject) -> Reply:
    return reply(None, 400) if body.get("logprobs") else good(body)


def drops_them(body: JSONObject) -> Reply:
    return good({**body, "logprobs": False})


def fills_in_zeros(body: JSONObject) -> Reply:
    return reply(entries(body, (0.0, 0.0, 0.0)))


def one_value(body: JSONObject) -> Reply:
    return reply(entries(body, (-9999.0, -9999.0)))


YES, NO = Given.YES, Given.REFUSED
ALL_CONSTANT = Abilities(Given.CONSTANT, Given.CONSTANT, Given.CONSTANT, gives_top=False)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (good, Abilities(YES, YES, YES, gives_top=True)),
        (refuses_tools_and_logprobs, Abilities(YES, NO, YES, gives_top=True)),
        (refuses_tools, Abilities(YES, Given.UNABLE, YES, gives_top=True)),
        (refuses_alternatives, Abilities(YES, YES, YES, gives_top=False)),
        (refuses_logprobs, Abilities(NO, NO, NO, gives_top=False)),
        (drops_them, Abilities(Given.MISSING, Given.MISSING, Given.MISSING, gives_top=False)),
        (
            fills_in_zeros,
            Abilities(Given.CONSTANT, Given.CONSTANT, Given.CONSTANT, gives_top=False),
        ),
        (one_value, ALL_CONSTANT),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_finds_out_what_a_server_gives(server: Server, expected: Abilities) -> None:
    async def ask(body: JSONObject) -> Reply:
        return server(body)

    found = await probe_abilities(ask, "m")
    assert found == expected
    assert (found.problem is None) is (expected.plain is YES)


@pytest.mark.parametrize("status", [0, 401, 429, 500, 503])
async def test_a_server_that_does_not_answer_is_not_judged(status: int) -> None:
    async def ask(_: JSONObject) -> Reply:
        return Reply(status, b"")

    assert await probe_abilities(ask, "m") is None


async def test_a_probed_server_is_asked_for_alternatives_and_not_believed_if_constant() -> None:
    for answer, expected in (
        ({"content": entries({"logprobs": 1, "top_logprobs": 1})["content"]}, (-0.5, -1.0)),  # type: ignore[index]
        (logprobs_of(-1.0, -1.0), ()),
    ):
        there = endpoint(an_answer(answer))
        async with there.running() as url:
            backend = OpenAIHTTPBackend(url, "home")
            await backend.learn()
            there.payload = json.dumps(an_answer(answer if expected else logprobs_of(0.0))).encode()
            draft = await backend.generate(a_request())
            await backend.aclose()
        assert draft.token_logprobs == expected
        assert ("top_logprobs" in there.bodies[-1]) is bool(expected)


async def test_log_probabilities_are_not_asked_for_where_the_server_refuses_them() -> None:
    there = endpoint(an_answer(logprobs_of(-0.5, -1.0)))
    async with there.running() as url:
        backend = OpenAIHTTPBackend(url, "home")
        backend._abilities = Abilities(YES, NO, YES, gives_top=True)
        await backend.generate(a_request(a_body(tools=[{"type": "function"}])))
        await backend.generate(a_request(a_body()))
        await backend.aclose()
    assert ["logprobs" in body for body in there.bodies] == [False, True]
