"""An answer that flows: in order, a few chunks ahead and no more, and one outcome whatever comes.

The destination is the stand-in behind the real SDK and door, the ledger a real one.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from audit.ledger import keyed_digest
from audit.stores.files import FileStore
from demo.stand_in_cloud import END, StandInCloud, chunk, streamed
from proxy.egress.attempt import Aim
from proxy.egress.budgets import Budget, Budgets, BudgetStore
from proxy.egress.live import MAX_WAITING, CloudStream
from proxy.egress.restore import MARK
from proxy.errors import CloudError
from proxy.flowing import Pipe
from proxy.types import Action, AnswerScan, JSONObject, Outcome, Scan
from tests.factories import a_body, a_decision, a_request
from tests.harness import records_in
from tests.proxy.egress.masking import content, inspect, masked
from tests.proxy.egress.test_attempt import Stage, spent, staged
from tests.proxy.egress.test_body import inspected

WORDS = [chunk({"role": "assistant", "content": "The"}), chunk({"content": " Volga."})]


@pytest.fixture
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server


@pytest.fixture
async def stage(cloud: StandInCloud, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(cloud, tmp_path, None, per_minute=1000) as stage:
        yield stage


async def ask(
    stage: Stage, body: JSONObject | None = None, **decided: Any
) -> Outcome | CloudStream:
    body = body or a_body(stream=True)
    decision = replace(a_decision(destinations=(stage.destination,)), **decided)
    request = replace(a_request(body), live=True)

    async def look(said: JSONObject) -> Any:
        return inspect(said)

    return await stage.tier.escalate(
        request, inspected(body), decision, Aim(stage.destination), None, look
    )


async def flowing(stage: Stage, body: JSONObject | None = None) -> CloudStream:
    live = await ask(stage, body)
    assert isinstance(live, CloudStream)
    return live


async def the_outcome(stage: Stage) -> dict[str, Any]:
    await stage.tier.aclose()
    (record,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]
    return record


def said(chunks: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for one in chunks for choice in one["choices"]
    )


async def test_a_chunk_is_there_before_the_next_was_written(
    stage: Stage, cloud: StandInCloud, gate: threading.Event
) -> None:
    cloud.reply = lambda _: streamed(WORDS[0], gate, WORDS[1], chunk({}, "stop"), END)
    live = aiter(await flowing(stage))
    assert said([await anext(live)]) == "The"
    assert not [r for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]
    gate.set()
    assert said([one async for one in live]) == " Volga."


async def test_the_record_tells_of_exactly_the_bytes_that_came_and_left(
    stage: Stage, cloud: StandInCloud, tmp_path: Path
) -> None:
    pieces = (*WORDS, chunk({}, "stop"), END)
    cloud.reply = lambda _: streamed(*pieces)
    chunks = [one async for one in await flowing(stage)]
    assert all("usage" not in one for one in chunks)
    record = await the_outcome(stage)
    (intent,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.intent"]
    keys = FileStore(tmp_path / "ledger", tmp_path / "keys").keys
    came, left = b"".join(pieces), cloud.requests[0].body
    assert record["response"] == {"hmac": keyed_digest(keys, came), "bytes": len(came)}
    assert intent["body"] == {"hmac": keyed_digest(keys, left), "bytes": len(left)}
    assert b'"stream":true,"stream_options":{"include_usage":true}' in left
    assert (record["error_type"], record["finish_reason"]) == (None, "stop")
    assert (record["prompt_tokens"], record["completion_tokens"]) == (20, 9)
    assert record["cost_usd"] == pytest.approx(0.00114)


BREAKS: dict[str, tuple[bytes | None, bool, str]] = {
    "the connection": (None, True, "connection"),
    "an end too soon": (b"", False, "connection"),
    "no json": (b"data: {canary\n\n", False, "garbage"),
    "no chunk": (b'data: {"choices": [{"index": 0, "delta": "canary"}]}\n\n', False, "garbage"),
    "no index": (b'data: {"choices": [{"delta": {}}]}\n\n', False, "garbage"),
    "an error": (b'data: {"error": {"message": "canary"}}\n\n', False, "upstream_error"),
    "a long event": (b"data: " + b"a" * 2**21, False, "too_large"),
    "many bytes": ((b": " + b"a" * 1021 + b"\n") * 2**15 + b": canary\n", False, "too_large"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_an_answer_that_breaks_off_ends_in_a_fault_and_one_outcome(
    name: str, stage: Stage, cloud: StandInCloud
) -> None:
    piece, cut, error_type = BREAKS[name]
    cloud.reply = lambda _: streamed(WORDS[0], *([piece] if piece else []), cut=cut)
    live = aiter(await flowing(stage))
    assert said([await anext(live)]) == "The"
    with pytest.raises(CloudError) as caught:
        await anext(live)
    assert caught.value.upstream_error == error_type
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
    record = await the_outcome(stage)
    assert (record["error_type"], record["sent"], record["status"]) == (error_type, "yes", 200)
    assert record["response"]["bytes"] == record["bytes_received"] > 0
    assert record["cost_usd"] is None
    assert len(cloud.requests) == 1
    counted = f'ringfence_cloud_attempts_total{{destination="eu",outcome="{error_type}"}} 1.0'
    assert counted in stage.metrics.exposition().decode()


@pytest.mark.parametrize("name", [name for name in BREAKS if name != "many bytes"])
async def test_what_breaks_off_before_its_first_chunk_is_a_fault_like_any_other(
    name: str, stage: Stage, cloud: StandInCloud
) -> None:
    piece, cut, error_type = BREAKS[name]
    cloud.reply = lambda _: streamed(b": hello\n\n", *([piece] if piece else []), cut=cut)
    with pytest.raises(CloudError) as caught:
        await ask(stage)
    assert caught.value.upstream_error == error_type
    assert (await the_outcome(stage))["error_type"] == error_type


async def test_a_stream_of_nothing_but_its_end_is_no_answer(
    stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: streamed(b"data: [DONE]\n\n")
    with pytest.raises(CloudError):
        await ask(stage)
    assert (await the_outcome(stage))["error_type"] == "garbage"


async def test_an_answer_in_one_piece_is_taken_as_ever(stage: Stage) -> None:
    outcome = await ask(stage)
    assert isinstance(outcome, Outcome)
    assert outcome.body["object"] == "chat.completion"
    assert (await the_outcome(stage))["error_type"] is None


async def test_a_reader_that_stops_holds_the_destination_back_and_leaves_one_outcome(
    stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: streamed(*WORDS[:1] * 200, chunk({}, "stop"), END)
    live = await flowing(stage)
    for _ in range(50):
        await asyncio.sleep(0)
    assert live._pipe.num_waiting <= MAX_WAITING
    live.close()
    record = await the_outcome(stage)
    assert record["error_type"] == "client_abort"
    assert record["response"]["bytes"] == record["bytes_received"] > 0


@pytest.mark.parametrize("late", [False, True])
async def test_closing_it_ends_it_while_the_destination_is_silent(
    late: bool, stage: Stage, cloud: StandInCloud, gate: threading.Event
) -> None:
    cloud.reply = lambda _: streamed(WORDS[0], gate, END)
    live = await flowing(stage)
    live.close(late=late)
    live.close(late=not late)
    record = await the_outcome(stage)
    assert record["error_type"] == ("timeout" if late else "client_abort")


@pytest.mark.parametrize("turns", range(0, 60, 4))
async def test_a_client_that_leaves_at_any_moment_leaves_one_outcome_for_each_intent(
    turns: int, stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: streamed(*WORDS, chunk({}, "stop"), END)

    async def read() -> None:
        live = await flowing(stage)
        try:
            async for _ in live:
                pass
        finally:
            live.close()

    task = asyncio.create_task(read())
    for _ in range(turns):
        await asyncio.sleep(0.001)
        if task.done():
            break
    task.cancel()
    await asyncio.wait({task})
    await stage.tier.aclose()
    kinds = [kind for kind, _, _ in stage.kinds()]
    assert kinds in ([], ["egress.intent", "egress.outcome"])


@pytest.mark.parametrize(
    "decided",
    [{"keep_answer": True}, {"scan": AnswerScan(Scan.NOTE, frozenset({"PERSON"}), 0.5)}],
    ids=["kept", "inspected"],
)
async def test_an_answer_that_is_kept_or_inspected_is_asked_for_whole(
    decided: dict[str, Any], stage: Stage, cloud: StandInCloud
) -> None:
    assert isinstance(await ask(stage, **decided), Outcome)
    assert b"stream" not in cloud.requests[0].body


@pytest.mark.parametrize("asked", [True, False])
async def test_usage_and_log_probabilities_come_to_those_who_asked(
    asked: bool, stage: Stage, cloud: StandInCloud
) -> None:
    scores = chunk({"content": "a"}).replace(b'"logprobs": null', b'"logprobs": {"content": []}')
    cloud.reply = lambda _: streamed(scores, chunk({}, "stop"), END)
    wishes: dict[str, Any] = (
        {"logprobs": True, "stream_options": {"include_usage": True}} if asked else {}
    )
    chunks: list[Any] = [one async for one in await flowing(stage, a_body(stream=True, **wishes))]
    assert chunks[0]["choices"][0]["logprobs"] == ({"content": []} if asked else None)
    assert ["usage" in one for one in chunks] == [asked] * len(chunks)
    assert [bool(one["choices"]) for one in chunks] == [True, True, *([False] if asked else [])]
    assert (chunks[-1].get("usage") is not None) == asked


UNCOUNTED = END.replace(b'"usage": {', b'"unknown": {')


@pytest.mark.parametrize(
    ("end", "told"),
    [(UNCOUNTED, (0, 0, None)), (END, (20, 9, (20 * 0.03 + 9 * 0.06) / 1000))],
    ids=["tells no tokens", "tells them unasked"],
)
async def test_a_destination_without_stream_options_is_asked_for_none(
    end: bytes, told: tuple[Any, ...], cloud: StandInCloud, tmp_path: Path
) -> None:
    budgets = BudgetStore(tmp_path / "budgets.sqlite3", Budgets(overall=Budget(day_usd=Decimal(1))))
    cloud.reply = lambda _: streamed(*WORDS, chunk({}, "stop"), end)
    async with staged(cloud, tmp_path, None, budgets) as counting:
        stage = replace(counting, destination=replace(counting.destination, stream_usage=False))
        wishes = {"include_usage": True, "include_obfuscation": True}
        live = await flowing(stage, a_body(stream=True, stream_options=wishes))
        assert said([one async for one in live]) == "The Volga."
        sent = json.loads(cloud.requests[0].body)
        assert (sent["stream"], "stream_options" in sent) == (True, False)
        record = await the_outcome(stage)
    tokens_in, tokens_out, cost = told
    assert (record["prompt_tokens"], record["completion_tokens"]) == (tokens_in, tokens_out)
    assert record["cost_usd"] == pytest.approx(cost)
    assert record["error_type"] is None
    most = ((len(cloud.requests[0].body) + 256) * 0.03 + sent["max_completion_tokens"] * 0.06) / 1e3
    assert spent(tmp_path) == pytest.approx(most if cost is None else cost)
    budgets.close()


async def test_it_counts_the_tokens_of_a_whole_answer_all_the_same(
    stage: Stage, cloud: StandInCloud
) -> None:
    there = replace(stage.destination, stream_usage=False)
    await ask(replace(stage, destination=there), keep_answer=True)
    assert b"stream" not in cloud.requests[0].body
    record = await the_outcome(stage)
    assert (record["prompt_tokens"], record["completion_tokens"]) == (20, 9)


def pieces_of(asked: bytes, size: int) -> list[bytes]:
    text = content(json.loads(asked))
    calls = [{"index": 0, "id": "call_1", "function": {"name": "send", "arguments": ""}}]
    told = [chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
    told.append(chunk({"tool_calls": calls}))
    for at in range(0, len(text), size):
        piece = {"index": 0, "function": {"arguments": text[at : at + size]}}
        told.append(chunk({"tool_calls": [piece]}))
    return [*told, chunk({}, "tool_calls"), END]


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_values_of_a_masked_request_come_back_whole(
    size: int, stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda asked: streamed(*pieces_of(asked.body, size))
    body = a_body("Jane Doe is in.", stream=True, stream_options={"include_usage": True})
    done = masked(body)
    assert done is not None
    ready = replace(done, inspection=inspected(done.body))
    live = await stage.tier.escalate(
        replace(a_request(body), live=True),
        inspected(body),
        a_decision(Action.MASK, destinations=(stage.destination,)),
        Aim(stage.destination),
        ready,
    )
    assert isinstance(live, CloudStream)
    chunks: list[Any] = [one async for one in live]
    assert b"Jane" not in cloud.received
    assert said(chunks) == "Jane Doe is in."
    marks = [one.get(MARK) for one in chunks]
    mark = {"restored_tool_calls": ["call_1"]}
    assert marks == [None] * (len(chunks) - 2) + [mark, mark]  # the end of the choice, and usage
    record = await the_outcome(stage)
    assert (record["restored"], record["marked_tool_calls"]) == (2, 1)


async def test_a_mark_of_the_destinations_own_is_not_passed_on(
    stage: Stage, cloud: StandInCloud
) -> None:
    forged = chunk({}, "stop").replace(b'{"id"', b'{"ringfence": {"a": 1}, "id"')
    cloud.reply = lambda _: streamed(WORDS[0], forged, END)
    assert all(MARK not in one for one in [one async for one in await flowing(stage)])


async def test_a_pipe_tells_its_fault_after_all_that_came() -> None:
    pipe = Pipe(MAX_WAITING)
    await pipe.put({"a": 1})
    pipe.close(ValueError())
    assert await anext(pipe) == {"a": 1}
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        await anext(pipe)
