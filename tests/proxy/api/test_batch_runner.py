"""The runner over a real store: what an end of the process, a lock, a fault or a clock does."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from audit.disk import take_lock
from proxy.api import batch_run
from proxy.api.auth import KeyEntry, KeyTable
from proxy.api.batch import MAX_OPEN, Batch, Batches, Status, TooManyBatches
from proxy.api.batch_lines import Limits
from proxy.api.batch_runner import BatchRunner, Pace
from proxy.api.files import Files
from proxy.errors import LocalBackendError, RequestError
from proxy.ids import new_id
from proxy.objects import ObjectStore, ObjectStoreError
from proxy.types import Request, Response, Route, RouteReason, Target
from tests.proxy.api.front_door import completion

OWNER = "open"
LIMITS = Limits(2**20, 64)
PACE = Pace(2, 30.0, LIMITS, retry_s=(0.01, 0.01), grace_s=0.05)


@dataclass
class Answers:
    """Answers, or does what is set; counts how often each line was asked."""

    asked: Counter[str] = field(default_factory=Counter)
    hangs: set[str] = field(default_factory=set)
    fault: Exception | None = None
    raised: bool = False
    text: str = "Fine."

    async def answer(self, request: Request) -> Response:
        body: Any = request.body
        name = body["messages"][0]["content"]
        self.asked[name] += 1
        await asyncio.sleep(0.01)
        if name in self.hangs:
            await asyncio.sleep(60)
        if self.fault is not None:
            self.raised = True
            raise self.fault
        route = Route(Target.LOCAL, RouteReason.CONFIDENT)
        return Response(new_id("dec"), 200, completion(self.text), route)


@dataclass
class Scene:
    """A store, what is in it, and the folder of the lock."""

    store: ObjectStore
    folder: Path
    answers: Answers = field(default_factory=Answers)

    @property
    def files(self) -> Files:
        return Files(lambda: self.store)

    @property
    def batches(self) -> Batches:
        return Batches(lambda: self.store)

    @asynccontextmanager
    async def running(self, keys: KeyTable | None = None) -> AsyncIterator[None]:
        """A runner, as after a start of the proxy; its end is the end of the process."""
        runner = BatchRunner(self.answers, self.batches, self.files, keys or KeyTable(), PACE)
        task = asyncio.create_task(runner.run(self.store, self.folder))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def made(self, *names: str, owner: str = OWNER, life_s: int = 3600) -> Batch:
        """A batch of one line for each name."""
        lines = [
            {
                "custom_id": name,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": [{"role": "user", "content": name}]},
            }
            for name in names
        ]
        content = b"\n".join(json.dumps(line).encode() for line in lines)
        file = await self.files.upload(owner, "a.jsonl", "batch", content, None)
        now = int(time.time())
        wanted = Batch(
            new_id("batch"), owner, "/v1/chat/completions", file.id, now, now + life_s, None, None
        )
        return await self.batches.create(wanted)

    async def until(self, wanted: Callable[[Batch], bool], batch: Batch) -> Batch:
        """The batch once it is as wanted."""
        async with asyncio.timeout(20):
            while not wanted(batch := await self.batches.show(batch.owner, batch.id)):
                await asyncio.sleep(0.02)
        return batch

    async def end_of(self, batch: Batch) -> Batch:
        batch = await self.until(lambda one: one.status.is_final, batch)
        async with asyncio.timeout(10):
            while (batch.owner, batch.id) in await self.batches.open():
                await asyncio.sleep(0.02)
        return batch

    async def results(self, batch: Batch, id_: str | None) -> dict[str, Any]:
        assert id_ is not None
        content = await self.files.content(batch.owner, id_)
        return {one["custom_id"]: one for one in map(json.loads, content.splitlines())}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store = ObjectStore(tmp_path / "objects.sqlite3", b"k" * 32, 86_400.0)
    yield Scene(store, tmp_path / "batches")
    store.close()


async def test_after_an_end_no_line_is_asked_twice_and_none_is_forgotten(scene: Scene) -> None:
    names = [f"line {place}" for place in range(8)]
    scene.answers.hangs = {"line 3", "line 5"}
    batch = await scene.made(*names)
    async with scene.running():  # both that may run at once hang, whatever came before
        await scene.until(lambda one: one.status is Status.IN_PROGRESS, batch)
        async with asyncio.timeout(10):
            while not scene.answers.asked.keys() >= scene.answers.hangs:
                await asyncio.sleep(0.02)
    asked_before = set(scene.answers.asked)
    assert len(asked_before) < len(names)
    scene.answers.hangs = set()
    async with scene.running():
        batch = await scene.end_of(batch)
    assert batch.status is Status.COMPLETED
    assert set(scene.answers.asked.values()) == {1}
    fine = await scene.results(batch, batch.output_file_id)
    cut = await scene.results(batch, batch.error_file_id)
    assert fine.keys() == set(names) - {"line 3", "line 5"}
    assert {name: one["error"]["code"] for name, one in cut.items()} == {
        "line 3": "interrupted",
        "line 5": "interrupted",
    }
    assert (batch.counts.total, batch.counts.completed, batch.counts.failed) == (8, 6, 2)
    assert batch.usage.input_tokens == 6
    assert await scene.store.all(batch.lines_kind, OWNER) == []


async def test_an_end_while_the_results_are_put_together_is_gone_on_from(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Files.write, []

    async def cut(self: Files, owner: str, id_: str, *rest: Any) -> None:
        await write(self, owner, id_, *rest)
        written.append(id_)
        raise asyncio.CancelledError

    batch = await scene.made("a", "b")
    monkeypatch.setattr(Files, "write", cut)
    async with scene.running():
        async with asyncio.timeout(10):
            while not written:
                await asyncio.sleep(0.02)
    monkeypatch.undo()
    async with scene.running():
        batch = await scene.end_of(batch)
    assert scene.answers.asked == {"a": 1, "b": 1}
    assert written == [batch.output_file_id]
    assert (await scene.results(batch, batch.output_file_id)).keys() == {"a", "b"}
    outputs = [file for file in await scene.files.all(OWNER) if file.purpose == "batch_output"]
    assert [file.id for file in outputs] == [batch.output_file_id]


async def test_who_is_cancelled_twice_lets_go_of_the_lock(scene: Scene) -> None:
    runner = BatchRunner(scene.answers, scene.batches, scene.files, KeyTable(), PACE)
    task = asyncio.create_task(runner.run(scene.store, scene.folder))
    async with asyncio.timeout(10):
        while is_free(scene.folder):
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert is_free(scene.folder)


def is_free(folder: Path) -> bool:
    """Whether no runner holds the lock of ``folder``."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (lock := take_lock(folder)) is None:
        return False
    os.close(lock)
    return True


async def test_two_processes_never_run_the_same_batch(scene: Scene) -> None:
    names = [f"line {place}" for place in range(20)]
    batch = await scene.made(*names)
    async with scene.running(), scene.running():
        batch = await scene.end_of(batch)
    assert scene.answers.asked == Counter(names)


async def test_the_next_process_goes_on_when_the_first_one_ends(scene: Scene) -> None:
    scene.answers.hangs = {"a"}
    batch = await scene.made("a", "b")
    async with scene.running():
        await scene.until(lambda one: one.counts.completed == 1, batch)
        async with asyncio.timeout(10):
            while not scene.answers.asked["a"]:
                await asyncio.sleep(0.02)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert scene.answers.asked == {"a": 1, "b": 1}


async def test_a_fault_that_passes_and_let_nothing_leave_is_waited_out(scene: Scene) -> None:
    scene.answers.fault = LocalBackendError("The on-premises model did not answer.")
    batch = await scene.made("a")
    async with scene.running():
        async with asyncio.timeout(10):
            while not scene.answers.raised:
                await asyncio.sleep(0)
        scene.answers.fault = None
        batch = await scene.end_of(batch)
    assert (batch.counts.completed, batch.counts.failed) == (1, 0)
    assert scene.answers.asked["a"] == 2


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (LocalBackendError("Down."), 3),
        (RequestError("Too many.", code="over_budget", http_status=429), 3),
        (LocalBackendError("No tools.", unable=True), 1),
        (ObjectStoreError("It may have left before this."), 1),
        (ValueError("a bug"), 1),
    ],
)
async def test_a_line_is_asked_again_only_if_nothing_can_have_left(
    fault: Exception, times: int, scene: Scene
) -> None:
    scene.answers.fault = fault
    batch = await scene.made("a")
    async with scene.running():
        batch = await scene.end_of(batch)
    assert scene.answers.asked["a"] == times
    assert batch.counts.failed == 1


async def test_a_key_that_is_gone_asks_nothing_more(scene: Scene) -> None:
    batch = await scene.made("a", owner="gone")
    entry = KeyEntry(id="kept", sha256="0" * 64, app="a", team="t", environment="e")
    async with scene.running(KeyTable([entry])):
        batch = await scene.end_of(batch)
    assert batch.status is Status.FAILED
    assert [one.code for one in batch.errors] == ["invalid_api_key"]
    assert not scene.answers.asked


async def test_a_batch_without_its_file_fails_and_tells_what_was_answered(scene: Scene) -> None:
    scene.answers.hangs = {"b"}
    batch = await scene.made("a", "b", "c")
    async with scene.running():
        await scene.until(lambda one: one.counts.completed == 2, batch)
    await scene.files.forget(OWNER, batch.input_file_id)
    async with scene.running():
        batch = await scene.end_of(batch)
    assert batch.status is Status.FAILED
    assert [(one.code, one.param) for one in batch.errors] == [("file_not_found", "input_file_id")]
    assert (await scene.results(batch, batch.output_file_id)).keys() == {"a", "c"}
    cut = await scene.results(batch, batch.error_file_id)
    assert cut["b"]["error"]["code"] == "interrupted"


async def test_what_is_not_asked_in_time_is_told(scene: Scene) -> None:
    scene.answers.hangs = {"b"}
    batch = await scene.made("a", "b", "c", "d")
    scene.answers.hangs = {"a", "b"}
    async with scene.running():
        async with asyncio.timeout(10):
            while len(scene.answers.asked) < 2:
                await asyncio.sleep(0.02)
    kept = await scene.batches.load(OWNER, batch.id)
    assert kept is not None
    await scene.batches.save(replace(kept, expires_at=int(time.time()) - 1))
    async with scene.running():
        batch = await scene.end_of(batch)
    assert batch.status is Status.EXPIRED
    told = await scene.results(batch, batch.error_file_id)
    codes = {name: one["error"]["code"] for name, one in told.items()}
    assert codes == {
        "a": "interrupted",
        "b": "interrupted",
        "c": "batch_expired",
        "d": "batch_expired",
    }
    assert batch.counts.failed == 4


async def test_answers_beyond_the_room_are_told_and_not_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "MAX_OUTPUT_BYTES", 5_000)
    scene.answers.text = "x" * 2_000
    batch = await scene.made("a", "b", "c", "d")
    async with scene.running():
        batch = await scene.end_of(batch)
    assert batch.status is Status.COMPLETED
    assert (batch.counts.completed, batch.counts.failed) == (2, 2)
    told = await scene.results(batch, batch.error_file_id)
    assert {one["error"]["code"] for one in told.values()} == {"output_too_large"}


async def test_a_batch_whose_state_cannot_be_kept_is_taken_up_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []
    put = ObjectStore.put

    async def fails_once(
        self: ObjectStore, kind: str, owner: str, id_: str, *rest: Any, **more: Any
    ) -> None:
        if "lines" in kind and not failed:
            failed.append(id_)
            raise ObjectStoreError("The disk is full.")
        await put(self, kind, owner, id_, *rest, **more)

    monkeypatch.setattr(ObjectStore, "put", fails_once)
    batch = await scene.made("a", "b", "c")
    async with scene.running():
        batch = await scene.end_of(batch)
    assert failed
    assert batch.counts.completed == 3
    assert scene.answers.asked == {"a": 1, "b": 1, "c": 1}


async def test_a_key_has_so_many_batches_under_way_and_no_more(scene: Scene) -> None:
    for _ in range(MAX_OPEN):
        await scene.made("a")
    with pytest.raises(TooManyBatches):
        await scene.made("a")
    await scene.made("a", owner="another")


async def test_every_key_has_its_turn(scene: Scene) -> None:
    long = await scene.made(*(f"line {place}" for place in range(3000)))
    entries = [
        KeyEntry(id=name, sha256=digit * 64, app="a", team="t", environment="e")
        for name, digit in ((OWNER, "0"), ("another", "1"))
    ]
    async with scene.running(KeyTable(entries)):
        await scene.until(lambda one: one.counts.completed > 0, long)
        short = await scene.made("quick", owner="another")
        await scene.end_of(short)
        assert (await scene.batches.show(OWNER, long.id)).status is Status.IN_PROGRESS
