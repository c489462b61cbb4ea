"""A batch under a plan: every line is answered at home, then some are asked again, and once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.api import batch_run
from proxy.api.auth import KeyEntry, KeyTable
from proxy.api.batch import Batch, Status
from proxy.api.batch_runner import BatchRunner
from proxy.errors import LocalBackendError
from proxy.holding import HOLD, Held
from proxy.ids import new_id
from proxy.objects import ObjectStore, ObjectStoreError
from proxy.types import Request, Response, Route, RouteReason, Target
from tests.proxy.api.front_door import completion
from tests.proxy.api.test_batch_runner import PACE, Scene

REACH = (("dear", "us"),)


@dataclass
class Tiers:
    """Says who answered; keeps what each line was asked with."""

    asked: list[tuple[str, str | None]] = field(default_factory=list)
    pinned: set[str] = field(default_factory=set)
    unable: set[str] = field(default_factory=set)
    fails: set[str] = field(default_factory=set)  # at the cloud
    hangs: set[str] = field(default_factory=set)  # at the cloud
    hangs_at_home: set[str] = field(default_factory=set)

    async def answer(self, request: Request) -> Response:
        body: Any = request.body
        name = str(body["messages"][0]["content"])
        self.asked.append((name, request.plan))
        if request.plan not in (None, HOLD):
            if name in self.hangs:
                await asyncio.sleep(60)
            if name in self.fails:
                raise LocalBackendError("both are down")
            route = Route(Target.CLOUD, RouteReason.PLANNED)
            return Response(new_id("dec"), 200, completion(f"{request.plan} of {name}"), route)
        if name in self.hangs_at_home:
            await asyncio.sleep(60)
        held = Held(name not in self.unable, None, 10, REACH)
        route = Route(Target.LOCAL, RouteReason.HELD)
        if name in self.unable:
            fault = LocalBackendError("The local model cannot.", unable=True)
            return Response(new_id("dec"), fault.http_status, fault.body, route, held=held)
        is_held = request.plan == HOLD and name not in self.pinned
        said = completion(f"home of {name}")
        return Response(new_id("dec"), 200, said, route, held=held if is_held else None)

    def again(self) -> list[str]:
        """The lines that were asked of a cloud, in order."""
        return [name for name, plan in self.asked if plan not in (None, HOLD)]


@dataclass
class Plans:
    """Sends the first few lines that are held; keeps what it was shown."""

    sends: int = 1
    shown: list[int] = field(default_factory=list)
    fault: Exception | None = None
    gate: threading.Event | None = None  # what is waited for first

    def __call__(self, held: Sequence[Held]) -> list[str | None]:
        self.shown.append(len(held))
        if self.gate is not None:
            self.gate.wait(60)
        if self.fault is not None:
            raise self.fault
        return ["dear" if place < self.sends else None for place in range(len(held))]


@dataclass
class Planned(Scene):
    """The scene of a runner that plans."""

    tiers: Tiers = field(default_factory=Tiers)
    plans: Plans = field(default_factory=Plans)

    @asynccontextmanager
    async def running(self, keys: KeyTable | None = None) -> AsyncIterator[None]:
        runner = BatchRunner(
            self.tiers, self.batches, self.files, keys or KeyTable(), PACE, self.plans
        )
        task = asyncio.create_task(runner.run(self.store, self.folder))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def made_for(self, *names: str, model: str = "ringfence") -> Batch:
        """As `made`, for the model that leaves the choice to the proxy."""
        lines = [
            {
                "custom_id": name,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": model, "messages": [{"role": "user", "content": name}]},
            }
            for name in names
        ]
        content = b"\n".join(json.dumps(line).encode() for line in lines)
        file = await self.files.upload("open", "a.jsonl", "batch", content, None)
        made = await self.made("unused")
        await self.batches.close("open", made.id)
        wanted = Batch(
            new_id("batch"),
            "open",
            "/v1/chat/completions",
            file.id,
            made.created_at,
            made.expires_at,
            None,
            None,
        )
        return await self.batches.create(wanted)

    async def said(self, batch: Batch) -> dict[str, str]:
        told = await self.results(batch, batch.output_file_id)
        return {
            name: one["response"]["body"]["choices"][0]["message"]["content"]
            for name, one in told.items()
        }


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Planned]:
    store = ObjectStore(tmp_path / "objects.sqlite3", b"k" * 32, 86_400.0)
    yield Planned(store, tmp_path / "batches")
    store.close()


NAMES = ("a", "b", "c", "d")


async def test_every_line_is_answered_at_home_before_any_is_asked_again(scene: Planned) -> None:
    scene.plans.sends = 2
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert scene.plans.shown == [4]
    assert sorted(scene.tiers.asked[:4]) == [(name, HOLD) for name in NAMES]
    assert len(scene.tiers.asked) == 6
    told = await scene.said(batch)
    again = scene.tiers.again()
    assert told == {n: f"dear of {n}" if n in again else f"home of {n}" for n in NAMES}
    assert (batch.counts.completed, batch.counts.failed) == (4, 0)
    assert batch.usage.output_tokens == 4 * 2  # of the answers given


async def test_what_is_pinned_or_names_its_model_is_no_plans(scene: Planned) -> None:
    scene.tiers.pinned = {"a", "c"}
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        await scene.end_of(batch)
    assert scene.plans.shown == [2]
    assert scene.tiers.again() in (["b"], ["d"])
    scene.tiers.asked.clear()
    batch = await scene.made_for("a", "b", model="m")
    async with scene.running():
        await scene.end_of(batch)
    assert sorted(scene.tiers.asked) == [("a", None), ("b", None)]
    assert scene.plans.shown == [2]


async def test_where_no_better_answer_comes_the_one_from_home_stands(scene: Planned) -> None:
    scene.plans.sends = 4
    scene.tiers.fails = {"a"}
    scene.tiers.unable = {"b", "c"}
    scene.tiers.fails |= {"c"}
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert await scene.said(batch) == {"a": "home of a", "b": "dear of b", "d": "dear of d"}
    errors = await scene.results(batch, batch.error_file_id)
    assert errors["c"]["response"]["status_code"] == 503
    assert sorted(scene.tiers.again()) == list(NAMES)  # none of them twice


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_plan_that_takes_long_keeps_no_other_batch_waiting(
    cancels: bool, scene: Planned
) -> None:
    scene.plans.gate = threading.Event()
    keys = KeyTable(
        [
            KeyEntry(id=name, sha256=digit * 64, app="a", team="t", environment="e")
            for name, digit in (("open", "0"), ("another", "1"))
        ]
    )
    batch = await scene.made_for(*NAMES)
    try:
        async with scene.running(keys):
            async with asyncio.timeout(20):
                while not scene.plans.shown:
                    await asyncio.sleep(0.01)
            if cancels:
                await scene.batches.cancel("open", batch.id)
            await scene.end_of(await scene.made("quick", owner="another"))
            scene.plans.gate.set()
            batch = await scene.end_of(batch)
    finally:
        scene.plans.gate.set()
    assert len(scene.tiers.again()) == (0 if cancels else 1)
    assert batch.counts.completed == 4


async def test_what_cannot_be_settled_is_taken_up_anew(
    scene: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, num_tried = batch_run.Run.settle, 0

    async def fails_once(run: batch_run.Run, plan: dict[int, str]) -> None:
        nonlocal num_tried
        num_tried += 1
        if num_tried == 1:
            raise ObjectStoreError("the disk is full")
        await settle(run, plan)

    monkeypatch.setattr(batch_run.Run, "settle", fails_once)
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert (num_tried, len(scene.tiers.again())) == (2, 1)
    assert sorted(await scene.said(batch)) == list(NAMES)


async def test_without_a_plan_every_answer_from_home_stands(scene: Planned) -> None:
    scene.plans.fault = MemoryError()
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert await scene.said(batch) == {name: f"home of {name}" for name in NAMES}


async def test_after_an_end_no_line_is_asked_twice_and_no_second_plan_is_made(
    scene: Planned,
) -> None:
    scene.plans.sends = 3
    scene.tiers.hangs = {"a", "b", "c", "d"}
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        async with asyncio.timeout(20):
            while len(scene.tiers.again()) < 2:  # two at once, and both hang
                await asyncio.sleep(0.02)
    hung = set(scene.tiers.again())
    scene.tiers.hangs = set()
    async with scene.running():
        batch = await scene.end_of(batch)
    assert scene.plans.shown == [4]
    again = scene.tiers.again()
    assert len(again) == len(set(again)) == 3
    told = await scene.said(batch)
    for name in NAMES:  # what may have left and brought nothing has its answer from home
        sent = name in again and name not in hung
        assert told[name] == (f"dear of {name}" if sent else f"home of {name}")
    homes = [name for name, plan in scene.tiers.asked if plan == HOLD]
    assert sorted(homes) == list(NAMES)


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_line_that_could_not_leave_is_asked_again_after_an_end(
    cancels: bool, scene: Planned
) -> None:
    scene.tiers.hangs_at_home = {"c", "d"}
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        async with asyncio.timeout(20):
            while len(scene.tiers.asked) < len(NAMES):
                await asyncio.sleep(0.02)
    scene.tiers.hangs_at_home = set()
    if cancels:
        await scene.batches.cancel("open", batch.id)
    async with scene.running():
        batch = await scene.end_of(batch)
    told = await scene.said(batch)
    if cancels:
        assert sorted(told) == ["a", "b"]
        lost = await scene.results(batch, batch.error_file_id)
        assert {name: one["error"]["code"] for name, one in lost.items()} == {
            "c": "batch_cancelled",
            "d": "batch_cancelled",
        }
        assert (batch.counts.completed, batch.counts.failed) == (2, 2)
    else:
        assert sorted(told) == list(NAMES)
        assert len(scene.tiers.again()) == 1


@asynccontextmanager
async def cut_off_while_it_sends(scene: Planned) -> AsyncIterator[Batch]:
    """A batch of which two lines are under way to a cloud, which never answers."""
    scene.plans.sends = 4
    scene.tiers.hangs = set(NAMES)
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        async with asyncio.timeout(20):
            while len(scene.tiers.again()) < 2:
                await asyncio.sleep(0.02)
        yield batch


async def test_a_cancelled_batch_keeps_its_answers_from_home_and_sends_no_more(
    scene: Planned,
) -> None:
    async with cut_off_while_it_sends(scene) as batch:
        await scene.batches.cancel("open", batch.id)
    scene.tiers.hangs = set()
    async with scene.running():
        batch = await scene.end_of(batch)
    assert batch.status is Status.CANCELLED
    assert len(scene.tiers.again()) == 2
    assert await scene.said(batch) == {name: f"home of {name}" for name in NAMES}


async def test_held_answers_count_towards_the_room_that_a_batch_may_take(
    scene: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "MAX_OUTPUT_BYTES", 900)
    scene.plans.sends = 0
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        batch = await scene.end_of(batch)
    errors = await scene.results(batch, batch.error_file_id)
    assert {one["error"]["code"] for one in errors.values()} == {"output_too_large"}
    assert batch.counts.completed + batch.counts.failed == len(NAMES)
    assert batch.counts.completed > 0


async def test_nothing_of_a_plan_is_kept_once_its_batch_is_over(scene: Planned) -> None:
    batch = await scene.made_for(*NAMES)
    async with scene.running():
        batch = await scene.end_of(batch)
    for kind in (batch.lines_kind, f"{batch.lines_kind}.plan"):
        assert await scene.store.all(kind, "open") == []


async def test_a_batch_whose_file_is_gone_tells_its_answers_from_home(scene: Planned) -> None:
    async with cut_off_while_it_sends(scene) as batch:
        pass
    await scene.files.forget("open", batch.input_file_id)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert batch.status is Status.FAILED
    assert await scene.said(batch) == {name: f"home of {name}" for name in NAMES}
    assert len(scene.tiers.again()) == 2
