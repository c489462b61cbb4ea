"""A cloud's answer reaches a streaming client while the cloud still writes it.

That is shown by a gate: the stand-in writes its last piece only when the client has the first one.
Whatever ends the answer, there is one outcome, and never a second attempt.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from demo.stand_in_cloud import (
    ANSWER,
    END,
    USAGE,
    Recorded,
    Reply,
    StandInCloud,
    chunk,
    streamed,
    text_chunk,
)
from tests.harness import RunningProxy

pytestmark = pytest.mark.slow

QUESTION = "Name the longest river in Europe."
WORDS = (chunk({"role": "assistant", "content": "The"}), chunk({"content": " Volga."}))
WHOLE = (*WORDS, chunk({}, "stop"), END)


def asked(**more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": QUESTION}
    return {"model": "ringfence", "messages": [message], "max_tokens": 4, "stream": True, **more}


@contextmanager
def listening(
    proxy: RunningProxy, body: dict[str, Any], path: str = "chat/completions"
) -> Iterator[Iterator[Any]]:
    """The events of a stream, as they come; ``[DONE]`` is one."""
    with (
        httpx2.Client(trust_env=False, timeout=60) as wire,
        wire.stream("POST", f"{proxy.url}/v1/{path}", json=body) as response,
    ):
        assert response.status_code == 200
        lines = (line for line in response.iter_lines() if line.startswith("data: "))
        yield (
            data if data == "[DONE]" else json.loads(data)
            for data in (line.removeprefix("data: ") for line in lines)
        )


def said(events: list[Any]) -> str:
    """What the chunks of ``events`` say together."""
    choices = [one for event in events if event != "[DONE]" for one in event.get("choices", ())]
    return "".join(one.get("text") or one.get("delta", {}).get("content") or "" for one in choices)


def outcome_after(proxy: RunningProxy, before: int) -> dict[str, Any]:
    """The one outcome since there were ``before``."""
    told: list[Any] = proxy.records_once("egress.outcome", before + 1)
    assert len(told) == len(proxy.records("egress.intent")) == before + 1
    return dict(told[-1])


def test_the_first_chunk_is_there_before_the_last_was_written(
    proxy: RunningProxy, cloud: StandInCloud, gate: threading.Event
) -> None:
    before = len(proxy.records("egress.outcome"))
    cloud.reply = lambda _: streamed(WORDS[0], gate, *WHOLE[1:])
    with listening(proxy, asked()) as events:
        assert said([next(events)]) == "The"
        assert len(proxy.records("egress.outcome")) == before
        gate.set()
        rest = list(events)
    assert said(rest) == " Volga."
    assert rest[-1] == "[DONE]"
    record = outcome_after(proxy, before)
    assert (record["error_type"], record["finish_reason"]) == (None, "stop")
    assert record["response"]["bytes"] == sum(map(len, WHOLE))
    body = json.loads(cloud.requests[0].body)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_completion_of_the_older_form_flows_too(
    proxy: RunningProxy, cloud: StandInCloud, gate: threading.Event
) -> None:
    cloud.reply = lambda _: streamed(text_chunk("The"), gate, text_chunk(" Volga.", "stop"), END)
    body = {"model": "ringfence", "prompt": QUESTION, "max_tokens": 4, "stream": True}
    with listening(proxy, body, "completions") as events:
        assert said([next(events)]) == "The"
        gate.set()
        rest = list(events)
    assert (said(rest), rest[-1]) == (" Volga.", "[DONE]")


@pytest.mark.parametrize("asks", [True, False])
def test_usage_comes_to_the_client_that_asked_and_on_the_record_always(
    asks: bool, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.outcome"))
    cloud.reply = lambda _: streamed(*WHOLE)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks else {}
    stream = proxy.client.chat.completions.create(**asked(**more))
    chunks = list(stream)
    usages = [one.usage for one in chunks if one.usage is not None]
    assert [one.model_dump(exclude_none=True) for one in usages] == ([USAGE] if asks else [])
    assert all(one.choices for one in chunks[: -1 if asks else None])
    record = outcome_after(proxy, before)
    assert (record["prompt_tokens"], record["completion_tokens"]) == (20, 9)


BREAKS: dict[str, tuple[bytes, bool, str]] = {
    "the cloud dies": (b": canary-4711\n\n", True, "connection"),
    "an event is garbage": (b"data: canary-4711\n\n", False, "garbage"),
    "an event has no end": (b"data: canary-4711" + b"a" * 2**21, False, "too_large"),
    "the cloud has an error": (
        b'data: {"error":{"message":"canary-4711"}}\n\n',
        False,
        "upstream_error",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_an_answer_that_breaks_off_ends_in_an_error_event_and_no_second_attempt(
    name: str, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    piece, cut, error_type = BREAKS[name]
    before = len(proxy.records("egress.outcome"))
    cloud.reply = lambda _: streamed(WORDS[0], piece, cut=cut)
    stream = proxy.client.chat.completions.create(**asked())
    assert next(stream).choices[0].delta.content == "The"
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert caught.value.code == "cloud_unavailable"
    record = outcome_after(proxy, before)
    assert (record["error_type"], record["sent"]) == (error_type, "yes")
    assert record["response"]["bytes"] == record["bytes_received"]
    assert len(cloud.requests) == 1
    counted = rf'cloud_attempts_total{{destination="[a-z-]+",outcome="{error_type}"}} [1-9]'
    assert re.search(counted, proxy.metrics().decode())
    assert b"canary-4711" not in proxy.everything_written()


def test_a_stream_that_breaks_off_before_its_first_chunk_is_the_draft(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.outcome"))
    cloud.reply = lambda _: streamed(b": hello\n\n", cut=True)
    with listening(proxy, asked()) as events:
        told = list(events)
    assert told[-1] == "[DONE]"
    assert said(told)
    assert outcome_after(proxy, before)["error_type"] == "connection"


def test_a_client_that_leaves_ends_the_attempt_while_the_cloud_is_silent(
    proxy: RunningProxy, cloud: StandInCloud, gate: threading.Event
) -> None:
    before = len(proxy.records("egress.outcome"))
    cloud.reply = lambda _: streamed(WORDS[0], gate, *WHOLE[1:])
    with listening(proxy, asked()) as events:
        assert said([next(events)]) == "The"
    record = outcome_after(proxy, before)  # the gate is still shut
    assert (record["error_type"], record["sent"]) == ("client_abort", "yes")
    assert record["response"]["bytes"] == len(WORDS[0])


def test_an_answer_in_one_piece_is_told_in_chunks_all_the_same(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.outcome"))
    with listening(proxy, asked()) as events:
        told = list(events)
    assert (said(told), told[-1]) == (ANSWER, "[DONE]")
    assert outcome_after(proxy, before)["error_type"] is None


def test_under_an_idempotency_key_the_answer_is_whole_before_it_is_told(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    cloud.reply = answers_as_asked
    raw = json.dumps(asked()).encode()
    told = [proxy.post(raw, **{"Idempotency-Key": "stream-1"}).content for _ in range(2)]
    assert ANSWER.split()[0].encode() in told[0]
    assert told[0].split(b"\n\n")[1:] == told[1].split(b"\n\n")[1:]
    assert len(cloud.requests) == 1
    assert b'"stream"' not in cloud.requests[0].body


def answers_as_asked(recorded: Recorded) -> Reply:
    """A stream to those who asked for one."""
    return streamed(*WHOLE) if json.loads(recorded.body).get("stream") else Reply()
