"""A local answer that flows: nothing of it is given out that the pin store does not know.

The store is a real one; the endpoint's part is played by the test, chunk by chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import LocalBackendError
from proxy.home_stream import HomeStream
from proxy.local.live import Asking, LocalStream, broken
from proxy.pins.growing import Pinning, pinning_of
from proxy.pins.quotes import RUN_WORDS, STRIDE, run_traces, whole_trace
from proxy.pins.store import PinStore, PinStoreError, pinned_traces
from proxy.telling import StreamEnd
from proxy.types import Action, JSONObject, Mask, Target
from tests.factories import a_body, a_decision, a_finding, a_request, an_inspection
from tests.proxy.pins.test_store import JANE
from tests.proxy.pins.test_store import an_inspection as conversation

ASKED = "What do the papers of the clinic say about Jane?"
ANSWER = (
    "The second tunnel under the north wing closes before summer, since the roof above the old "
    "boiler has begun to sink. Two engineers measured eleven millimetres since winter, and nobody "
    "outside the building committee knows of either measurement."
)
PINNED = replace(a_decision(Action.LOCAL_ONLY), decision_id="dec_" + "1" * 28)
TOLD = an_inspection(a_finding(), texts=(ASKED,))


def chunk(delta: JSONObject, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}


def call(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


@dataclass
class Scene:
    """A stream between an endpoint that the test plays and a reader."""

    store: PinStore
    pinning: Pinning | None
    stream: LocalStream = field(
        default_factory=lambda: LocalStream(Asking("", b"", {}, a_request(a_body())))
    )
    ends: list[StreamEnd] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = HomeStream(self.stream, self.pinning, self.ends.append)

    async def play(self, *chunks: JSONObject, fault: str | None = None) -> None:
        """The endpoint's part: its chunks, and its end."""
        for one in chunks:
            await self.stream.pipe.put(one)
            self.stream.progress.note(one)
        self.stream.error_type = fault
        self.stream.pipe.close(None if fault is None else broken(fault))

    async def finds(self, *texts: str) -> bool:
        """Whether a request that carries ``texts`` would be known again."""
        wholes = [trace for text in texts if (trace := whole_trace(text)) is not None]
        return await self.store.find(lambda: [*wholes, *run_traces(texts)]) is not None

    def break_store(self) -> None:
        with contextlib.closing(sqlite3.connect(self.folder / "pins.sqlite3")) as db:
            db.execute("DROP TABLE pins")

    folder: Path = Path()


@pytest.fixture(autouse=True)
def _no_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.home_stream.SPACING_S", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PinStore]:
    store = PinStore(tmp_path / "pins.sqlite3", b"k" * 32, 1000.0)
    yield store
    store.close()


@pytest.fixture
def scene(store: PinStore, tmp_path: Path) -> Scene:
    return Scene(store, Pinning(store, TOLD, PINNED), folder=tmp_path)


class Client:
    """What a client holds: each text so far."""

    def __init__(self) -> None:
        self.texts: dict[tuple[int, str], str] = {}

    def take(self, one: JSONObject) -> None:
        choices: Any = one["choices"]
        for choice in choices:
            for told in choice["delta"].get("tool_calls") or ():
                self.add((choice["index"], f"call{told['index']}"), told["function"]["arguments"])
            self.add((choice["index"], "content"), choice["delta"].get("content") or "")

    def add(self, key: tuple[int, str], piece: str) -> None:
        self.texts[key] = self.texts.get(key, "") + piece


def cut(text: str, rng: random.Random) -> list[str]:
    pieces = []
    while text:
        size = rng.choice([1, 1, 2, 3, 5, 9, 40])
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def answers(rng: random.Random) -> list[JSONObject]:
    """Content of two choices and the arguments of a tool call, cut anywhere and dealt anyhow."""
    arguments = json.dumps({"mail": json.dumps({"body": ANSWER.upper(), "to": "é\n"})})
    hands = [
        [chunk({"content": piece}) for piece in cut(ANSWER, rng)],
        [chunk(call(piece, 1)) for piece in cut(arguments, rng)],
        [chunk({"content": piece}, index=1) for piece in cut(ANSWER[::-1], rng)],
    ]
    dealt: list[JSONObject] = []
    while hands := [hand for hand in hands if hand]:
        dealt.append(rng.choice(hands).pop(0))
    return [*dealt, chunk({}, "stop"), chunk({}, "stop", 1)]


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_was_given_out_is_known_at_each_cut(seed: int, scene: Scene) -> None:
    rng = random.Random(seed)  # noqa: S311 - which cuts are tried
    endpoint = asyncio.create_task(scene.play(*answers(rng)))
    client, num_checked = Client(), 0
    async for one in scene.live:
        client.take(one)
        if rng.random() < 0.7:
            continue
        for text in client.texts.values():
            if whole_trace(text) is not None:
                assert await scene.finds(text)
                num_checked += 1
        words = client.texts.get((0, "content"), "").split()
        start = rng.randrange(max(1, len(words)))
        trimmed = words[start : start + RUN_WORDS + STRIDE - 1]
        if len(trimmed) == RUN_WORDS + STRIDE - 1 and any(run_traces([" ".join(trimmed)])):
            assert await scene.finds("So they say: " + " ".join(trimmed) + " and so on")
    await endpoint
    assert num_checked > 20
    assert client.texts[0, "content"] == ANSWER
    texts = [client.texts[key] for key in ((0, "content"), (0, "call1"), (1, "content"))]
    for trace in pinned_traces(TOLD, texts, derived=False):
        assert await scene.store.find(lambda trace=trace: [trace]) is not None  # type: ignore[misc]
    assert [end.error_type for end in scene.ends] == [None]


async def test_nothing_is_known_before_it_was_said(scene: Scene) -> None:
    assert not await scene.finds(ANSWER)


async def test_what_is_not_pinned_is_not_remembered_and_flows_all_the_same(
    store: PinStore,
) -> None:
    scene = Scene(store, None)
    endpoint = asyncio.create_task(scene.play(chunk({"content": ANSWER}), chunk({}, "stop")))
    assert len([one async for one in scene.live]) == 2
    await endpoint
    assert not await scene.finds(ANSWER)


async def test_a_piece_waits_for_its_pin_and_what_comes_meanwhile_for_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, num_writes, remember = asyncio.Event(), 0, scene.store.remember

    async def slow(said: Callable[[], Any], decision_id: str, kept_s: float) -> None:
        nonlocal num_writes
        num_writes += 1
        await gate.wait()
        await remember(said, decision_id, kept_s)

    monkeypatch.setattr(scene.store, "remember", slow)
    pieces = [chunk({"content": word + " "}) for word in ANSWER.split()[:20]]
    first = asyncio.ensure_future(anext(scene.live))
    await scene.stream.pipe.put(pieces[0])
    for _ in range(20):
        await asyncio.sleep(0)
    for piece in pieces[1:]:
        await scene.stream.pipe.put(piece)
    assert not first.done()
    gate.set()
    assert await first == pieces[0]
    rest = [await anext(scene.live) for _ in pieces[1:]]
    assert (rest, num_writes) == (pieces[1:], 2)


async def test_a_store_that_fails_ends_it_before_the_piece_is_given(scene: Scene) -> None:
    await scene.stream.pipe.put(chunk({"content": "The second tunnel"}))
    assert (await anext(scene.live))["choices"]
    scene.break_store()
    await scene.stream.pipe.put(chunk({"content": " under the north wing"}))
    with pytest.raises(PinStoreError):
        await anext(scene.live)
    with pytest.raises(LocalBackendError):
        await anext(scene.live)
    assert [end.error_type for end in scene.ends] == ["not_pinned"]


async def test_the_end_of_an_answer_waits_for_the_pin_of_the_whole(scene: Scene) -> None:
    await scene.stream.pipe.put(chunk({"content": ANSWER}))
    await scene.stream.pipe.put(chunk({}, "stop"))
    await anext(scene.live)
    assert await scene.store.find(lambda: [whole_trace(ANSWER) or ""]) is None  # its runs are
    last = asyncio.ensure_future(anext(scene.live))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not last.done()
    await scene.play()
    assert (await last)["choices"]
    assert await scene.store.find(lambda: [whole_trace(ANSWER) or ""]) is not None


async def test_a_choice_that_begins_after_another_ended_is_not_held_back(scene: Scene) -> None:
    await scene.stream.pipe.put(chunk({"content": "a"}, "stop"))
    await scene.stream.pipe.put(chunk({"content": "b"}, index=1))
    told = [await anext(scene.live) for _ in range(2)]
    choices: Any = [one["choices"] for one in told]
    assert [choice["delta"]["content"] for (choice,) in choices] == ["a", "b"]


@pytest.mark.parametrize("fault", ["connection", "garbage", "timeout"])
async def test_what_came_before_a_fault_is_given_pinned_and_then_the_fault(
    fault: str, scene: Scene
) -> None:
    endpoint = asyncio.create_task(scene.play(chunk({"content": ANSWER}), fault=fault))
    assert (await anext(scene.live))["choices"]
    assert await scene.finds(ANSWER)
    with pytest.raises(LocalBackendError):
        await anext(scene.live)
    await endpoint
    assert [end.error_type for end in scene.ends] == [fault]


@pytest.mark.parametrize("late", [False, True])
async def test_closing_it_is_told_once_and_nothing_more_is_given(late: bool, scene: Scene) -> None:
    await scene.stream.pipe.put(chunk({"content": "The"}))
    await scene.stream.pipe.put(chunk({"content": " second"}))
    await anext(scene.live)
    scene.live.close(late=late)
    scene.live.close(late=not late)
    with pytest.raises(LocalBackendError):
        await anext(scene.live)
    assert [end.error_type for end in scene.ends] == ["timeout" if late else "client_abort"]


async def test_one_that_is_at_its_end_is_not_broken_by_closing_it(scene: Scene) -> None:
    usage = {"completion_tokens": 3}
    last = {**chunk({"content": "x"}, "stop"), "usage": usage}
    endpoint = asyncio.create_task(scene.play(last))
    assert len([one async for one in scene.live]) == 1
    await endpoint
    scene.live.close()
    assert scene.ends == [StreamEnd(None, usage)]


async def test_a_long_answer_is_pinned_in_few_turns_and_each_word_is_looked_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.home_stream.SPACING_S", 0.02)
    num_writes, num_traces, remember = 0, 0, scene.store.remember

    async def counting(said: Callable[[], Any], decision_id: str, kept_s: float) -> None:
        def counted() -> list[str]:
            nonlocal num_writes, num_traces
            traces = list(said())
            num_writes, num_traces = num_writes + 1, num_traces + len(traces)
            return traces

        await remember(counted, decision_id, kept_s)

    monkeypatch.setattr(scene.store, "remember", counting)
    words = [chunk({"content": f"number{index} "}) for index in range(3000)]
    endpoint = asyncio.create_task(scene.play(*words, chunk({}, "stop")))
    assert len([one async for one in scene.live]) == 3001
    await endpoint
    assert num_writes < 3000 / 10
    assert num_traces < 2000


async def answers_of(pinning: Pinning, store: PinStore) -> AsyncIterator[bool]:
    scene = Scene(store, pinning)
    endpoint = asyncio.create_task(scene.play(chunk({"content": ANSWER})))
    await anext(scene.live)
    yield await scene.finds(ANSWER)
    await endpoint


@pytest.mark.parametrize("masks", [True, False])
async def test_an_answer_made_from_what_leaves_only_masked_is_pinned(
    masks: bool, store: PinStore
) -> None:
    decision = replace(a_decision(Action.MASK), masks=(Mask(a_finding()),) if masks else ())
    pinning = pinning_of(store, TOLD, decision, Target.LOCAL)
    assert (pinning is not None) == masks
    assert pinning_of(store, TOLD, decision, Target.CLOUD) is None
    if pinning is not None:
        assert [found async for found in answers_of(pinning, store)] == [True]


async def test_what_assistants_said_since_the_secret_is_pinned_with_the_first_piece(
    store: PinStore,
) -> None:
    scene = Scene(store, Pinning(store, conversation((JANE,)), PINNED))
    await scene.stream.pipe.put(chunk({"content": "Hm."}))
    await anext(scene.live)
    assert await scene.finds("Your results say that it is serious.")
    assert not await scene.finds("How can I help you today, please?")
