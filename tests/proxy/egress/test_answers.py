"""A cloud's answer is inspected before anybody gets it, as policy asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.egress.answers import Look, Scoring, made_whole
from proxy.egress.mask import Masked
from proxy.errors import InspectionError
from proxy.routes.registry import ROUTES
from proxy.routes.route import ApiRoute
from proxy.types import (
    AnswerScan,
    Inspection,
    JSONObject,
    MaskWith,
    Outcome,
    Scan,
    Scanned,
    Unscannable,
    UnscannableReason,
    Verdict,
)
from tests.factories import a_body
from tests.proxy.egress.masking import content, inspect, masked
from tests.proxy.routing.tables import a_chain

MAIL = "max@mail.example"
FOUND = {MAIL: "EMAIL_ADDRESS", "Max Weber": "PERSON", "Jane Doe": "PERSON"}
COUNTED = frozenset({"EMAIL_ADDRESS"})


def an_outcome(body: JSONObject) -> Outcome:
    return Outcome(200, body, "gpt-4o-mini", 1, 1, 10, 10, 1.0)


def chat(text: str, **message: object) -> dict[str, Any]:
    told = {"role": "assistant", "content": text, **message}
    return {"id": "x", "choices": [{"index": 0, "message": told, "finish_reason": "stop"}]}


def looking(
    *reasons: UnscannableReason, fault: Exception | None = None, found: Mapping[str, str] = FOUND
) -> Look:
    """The real inspection with a detector for given words; or one that fails."""

    async def look(body: JSONObject) -> Inspection:
        if fault is not None:
            raise fault
        entries = tuple(Unscannable(0, reason) for reason in reasons)
        return replace(inspect(body, found), unscannable=entries)

    return look


async def scanned(
    body: JSONObject,
    does: Scan,
    look: Look | None = None,
    *,
    entities: frozenset[str] = COUNTED,
    route: str = "chat.completions",
    request: Masked | None = None,
) -> tuple[Any, Scanned]:
    scan = AnswerScan(does, entities, 0.5)
    result = await made_whole(an_outcome(body), route, (scan, look or looking()), request)
    assert isinstance(result, Outcome)
    assert result.scanned is not None
    return result.body, result.scanned


CASES = {
    "note": (Scan.NOTE, Scanned(Verdict.NOTED, (("EMAIL_ADDRESS", 1),))),
    "redact": (Scan.REDACT, Scanned(Verdict.REDACTED, (("EMAIL_ADDRESS", 1),))),
    "block": (Scan.BLOCK, Scanned(Verdict.BLOCKED, (("EMAIL_ADDRESS", 1),), withheld=True)),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_is_found_is_counted_taken_out_or_withheld(name: str) -> None:
    does, expected = CASES[name]
    body, told = await scanned(chat(f"Ask Max Weber, {MAIL}."), does)
    assert told == expected
    said = body["choices"][0]["message"]["content"]
    taken = does is Scan.REDACT
    assert said == f"Ask Max Weber, {'[REDACTED]' if taken else MAIL}."


@pytest.mark.parametrize("does", Scan)
async def test_what_policy_does_not_count_is_clean(does: Scan) -> None:
    body, told = await scanned(chat("Ask Max Weber."), does)
    assert (body, told) == (chat("Ask Max Weber."), Scanned(Verdict.CLEAN))


@pytest.mark.parametrize("does", Scan)
@pytest.mark.parametrize(
    "look",
    [
        looking(fault=InspectionError("down")),
        looking(UnscannableReason.DETECTOR_FAILED),
        looking(UnscannableReason.DETECTOR_TIMEOUT),
    ],
    ids=["down", "failed", "late"],
)
async def test_detectors_that_fail_withhold_every_answer(look: Look, does: Scan) -> None:
    _, told = await scanned(chat("Hello."), does, look)
    assert told == Scanned(Verdict.FAILED, withheld=True)


@pytest.mark.parametrize("does", Scan)
async def test_what_was_not_read_to_its_end_is_withheld_unless_only_noted(does: Scan) -> None:
    _, told = await scanned(chat("Hello."), does, looking(UnscannableReason.LANGUAGE))
    assert told == Scanned(Verdict.UNREAD, withheld=does is not Scan.NOTE)


async def test_vectors_are_not_read() -> None:
    vectors: JSONObject = {"data": [{"embedding": [0.5]}]}
    scan = AnswerScan(Scan.BLOCK, COUNTED, 0.5)
    look = looking(fault=InspectionError("down"))
    result = await made_whole(an_outcome(vectors), "embeddings", (scan, look), None)
    assert result == an_outcome(vectors)


async def test_a_fault_of_ours_is_a_value_without_text() -> None:
    look = looking(fault=ValueError("Max Weber"))
    scan = AnswerScan(Scan.NOTE, COUNTED, 0.5)
    result = await made_whole(an_outcome(chat("Hello.")), "chat.completions", (scan, look), None)
    assert "Max" not in repr(result)
    assert not isinstance(result, Outcome)


async def test_every_place_of_an_answer_is_redacted() -> None:
    call = {"name": "send", "arguments": json.dumps({"to": json.dumps([MAIL])})}
    free = {"id": "c2", "type": "custom", "custom": {"name": "say", "input": f"to {MAIL}"}}
    calls = [{"id": "c1", "type": "function", "function": call}, free]
    answer = chat(f"To {MAIL}", refusal=f"not {MAIL}", tool_calls=calls, function_call=call)
    body, told = await scanned(answer, Scan.REDACT)
    assert told.verdict is Verdict.REDACTED
    assert MAIL not in json.dumps(body)
    arguments = json.loads(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
    assert json.loads(arguments["to"]) == ["[REDACTED]"]


async def test_responses_and_completions_are_redacted_too() -> None:
    part = {"type": "output_text", "text": f"To {MAIL}", "annotations": [], "logprobs": [{}]}
    items: Any = [
        {"type": "message", "role": "assistant", "content": [part]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": f'{{"a":"{MAIL}"}}'},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": f"About {MAIL}"}]},
    ]
    body, _ = await scanned({"output": items}, Scan.REDACT, route="responses")
    assert MAIL not in json.dumps(body)
    assert body["output"][0]["content"][0]["logprobs"] == []
    body, _ = await scanned({"choices": [{"text": f"To {MAIL}"}]}, Scan.REDACT, route="completions")
    assert body["choices"][0]["text"] == "To [REDACTED]"


async def test_what_cannot_be_taken_out_is_withheld() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": MAIL, "arguments": "{}"}}]
    _, told = await scanned(chat("Hi.", tool_calls=calls), Scan.REDACT)
    assert (told.verdict, told.withheld) == (Verdict.BLOCKED, True)


async def test_log_probabilities_do_not_tell_what_was_taken_out() -> None:
    answer = chat("Hello.")
    answer["choices"][0]["logprobs"] = {"content": [{"token": MAIL, "logprob": -0.1}]}
    body, _ = await scanned(answer, Scan.REDACT)
    assert body["choices"][0]["logprobs"] is None
    body, _ = await scanned(answer, Scan.NOTE)
    assert body == answer


@pytest.mark.parametrize("by", [MaskWith.PLACEHOLDER, MaskWith.PSEUDONYM])
async def test_what_was_masked_is_no_finding_and_comes_back(by: MaskWith) -> None:
    request = masked(a_body("I am Jane Doe."), by=by)
    assert request is not None
    answer = chat(f"{content(request.body)} Ask {MAIL}.")
    body, told = await scanned(
        answer,
        Scan.REDACT,
        looking(found={**FOUND, **{entry.token: "PERSON" for entry in request.vault}}),
        entities=frozenset({"PERSON", "EMAIL_ADDRESS"}),
        request=request,
    )
    assert told == Scanned(Verdict.REDACTED, (("EMAIL_ADDRESS", 1),))
    assert content_of(body) == "I am Jane Doe. Ask [REDACTED]."


async def test_values_are_not_put_back_into_what_is_withheld() -> None:
    request = masked(a_body("I am Jane Doe."))
    assert request is not None
    answer = chat(f"{content(request.body)} Ask {MAIL}.")
    body, told = await scanned(answer, Scan.BLOCK, request=request)
    assert told.withheld
    assert "Jane" not in content_of(body)


def content_of(body: Any) -> str:
    return str(body["choices"][0]["message"]["content"])


PIECES = st.lists(st.sampled_from([MAIL, "Max Weber", "a", " ", '"', "\\", "\n", "é"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(PIECES.map(" ".join), PIECES.map(" ".join))
def test_nothing_that_counts_is_left_in_what_is_given_out(said: str, given_: str) -> None:
    import asyncio

    call = {"name": "send", "arguments": json.dumps({"x": json.dumps({"y": given_})})}
    answer = chat(said, tool_calls=[{"id": "c", "type": "function", "function": call}])
    body, told = asyncio.run(scanned(answer, Scan.REDACT))
    if told.withheld:
        return
    assert inspect({"c": body["choices"]}, {MAIL: "EMAIL_ADDRESS"}).findings == ()
    arguments = body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert "y" in json.loads(json.loads(arguments)["x"])


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=3),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "choices message content logprobs token logprob top_logprobs output type text "
                "finish_reason tokens token_logprobs status".split()
            ),
            one,
            max_size=5,
        )
    ),
    max_leaves=12,
)
SCORED = [route for route in ROUTES.values() if route.abroad and route.abroad.scores]


@settings(max_examples=300)
@given(route=st.sampled_from(SCORED), odd=ODD, more=ODD, asked=st.booleans())
def test_whatever_stands_in_an_answer_it_is_scored_or_unknown(
    route: ApiRoute, odd: Any, more: Any, asked: bool
) -> None:
    call = route.abroad
    assert call is not None
    assert call.scores is not None
    part = {"type": "output_text", "text": "x", "logprobs": odd}
    answer: Any = {
        "status": "completed",
        "choices": [{"message": {"content": more}, "text": "x", "logprobs": odd}],
        "output": [{"type": "message", "content": [part, more]}, odd],
    }
    assert call.is_answer(answer)
    chain = a_chain("cheap", "dear")
    scoring = Scoring(partial(chain.confidence, threshold=-0.5, left=1.0), call.scores, {})
    told = scoring.of(answer)
    assert told.score is None or told.score <= 0.0
    wish: Any = {"logprobs": True, "top_logprobs": 1} if asked else {}
    wish |= {"include": ["message.output_text.logprobs"]} if asked else {}
    shown = call.scores.hide(answer, wish)
    assert call.is_answer(shown)
    assert route.texts(shown) == route.texts(answer)
