"""One batch while it is run: which lines are left, and what came of the others.

Each line is marked before it is asked, and its result is kept before the next one begins; so after
any end of the process no finished line is asked twice, and a line whose mark has no result is told
as interrupted instead of being sent again, unless it was held at home and cannot have left.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from proxy.api.batch import MAX_OUTPUT_BYTES, Batch, Counts, LineError, Status, Usage
from proxy.api.batch_lines import Limits, Lines, interrupted, not_answered, tokens_of, told
from proxy.api.files import Files
from proxy.canonical import canonical_bytes
from proxy.holding import Held
from proxy.ids import new_id
from proxy.objects import ObjectStore, ObjectStoreError

#: Why the lines that are left are not asked, by the state of their batch.
_LEFT: Final = {
    Status.CANCELLED: ("batch_cancelled", "The batch was cancelled before this line was asked."),
    Status.EXPIRED: ("batch_expired", "The time of the batch was up before this line was asked."),
}
#: Under which name the plan of a batch is kept.
_PLAN: Final = "plan"

_TOO_MUCH: Final = "The answers of this batch take too much room; this one was not kept."


@dataclass(slots=True)
class Run:
    """A batch under way, in the one process that runs it."""

    batch: Batch
    lines: Lines
    store: ObjectStore
    left: deque[int] = field(default_factory=deque)
    held: dict[int, tuple[Held, int]] = field(default_factory=dict)  # and the answer's bytes
    plan: dict[int, str] | None = None  # the lines that are asked again, and of which model
    again: deque[int] = field(default_factory=deque)
    num_running: int = 0
    num_bytes: int = 0  # of all results so far
    ends_as: Status = Status.COMPLETED
    is_dirty: bool = True
    is_broken: bool = False  # its state could not be kept: it is taken up anew

    @classmethod
    async def resumed(cls, batch: Batch, lines: Lines, store: ObjectStore) -> Run:
        """The run of ``batch``, begun anew or gone on with."""
        run = cls(batch, lines, store)
        told = await run._kept()
        run.batch = replace(batch, counts=Counts(len(lines)), usage=Usage())
        for index in range(len(lines)):
            kept = told.get(_id(index))
            if kept is None:
                run.left.append(index)
            elif kept.get("at_home"):  # the process ended, and nothing of it can have left
                await run.give_back(index)
                run.left.append(index)
            elif "result" in kept:
                run._count(kept["result"])
            elif "held" in kept:
                run._hold(index, _held_of(kept["held"]), kept["answer"])
            else:  # the process ended while it was asked, or asked again
                await run.finish(index, _result_of(kept))
        plan = await store.get(run._plan_kind, batch.owner, _PLAN)
        if plan is not None:
            await run._follow({int(index): model for index, model in json.loads(plan).items()})
        return run

    @classmethod
    def stopped(cls, batch: Batch, store: ObjectStore, errors: tuple[LineError, ...]) -> Run:
        """The run of a batch that cannot go on; what was answered before is told all the same."""
        lines = Lines(b"", (), batch.endpoint, Limits(0, 0))
        return cls(replace(batch, errors=errors), lines, store, ends_as=Status.FAILED)

    @property
    def may_begin(self) -> bool:
        """Whether a further line may be begun, if there is one."""
        return self.ends_as is Status.COMPLETED and not self.is_broken

    @property
    def has_work(self) -> bool:
        """Whether a line is to be begun."""
        return bool(self.left or self.again) and self.may_begin

    @property
    def is_over(self) -> bool:
        """Whether nothing is left but to put the results together."""
        waits = self.has_work or self.held
        return self.num_running == 0 and not waits and not self.is_broken

    @property
    def wants_plan(self) -> bool:
        """Whether every line has its answer from home, or none gets one any more."""
        is_quiet = self.num_running == 0 and not self.is_broken
        return bool(self.held) and is_quiet and not self.has_work

    def next(self) -> tuple[int, str | None]:
        """The line to ask, and the model that the plan says; None: it has none yet."""
        if self.left:
            return self.left.popleft(), None
        index = self.again.popleft()
        return index, (self.plan or {})[index]

    async def begin(
        self, index: int, custom_id: str, request_id: str, *, is_held: bool = False
    ) -> None:
        """Mark a line as under way; durable on return. ``is_held``: it cannot leave."""
        mark = {"custom_id": custom_id, "request_id": request_id}
        await self._keep(index, {**mark, "at_home": True} if is_held else mark)

    async def begin_again(self, index: int, custom_id: str, request_id: str) -> None:
        """Mark a line that has an answer from home as under way to a cloud; durable on return."""
        answer = await self.answer_from_home(index)
        mark = {"custom_id": custom_id, "request_id": request_id, "answer": answer}
        await self._keep(index, mark)

    async def hold(self, index: int, result: dict[str, Any], held: Held) -> None:
        """Keep the answer from home until there is a plan, if there is room for it."""
        if self.num_bytes + len(canonical_bytes(result)) > MAX_OUTPUT_BYTES:
            await self.finish(index, result)
            return
        await self._keep(index, {"held": asdict(held), "answer": result})
        self._hold(index, held, result)

    async def answer_from_home(self, index: int) -> dict[str, Any]:
        """What `hold` kept."""
        kept = await self.store.get(self.batch.lines_kind, self.batch.owner, _id(index))
        if kept is None:
            raise ObjectStoreError("a held answer is gone")
        return dict(json.loads(kept)["answer"])

    async def settle(self, plan: dict[int, str]) -> None:
        """Follow ``plan``: durable before anything of it is done, so that no end makes another."""
        if self.plan is None:
            data, ttl_s = json.dumps(plan).encode(), self.batch.line_ttl_s()
            place = (self._plan_kind, self.batch.owner, _PLAN)
            await self.store.put(*place, data, ttl_s=ttl_s, quota=None)
        await self._follow(plan)

    async def _follow(self, plan: dict[int, str]) -> None:
        """Let the answers stand that no model shall better; the other lines are asked again."""
        self.plan = plan
        self.again = deque(index for index in self.held if index in plan)
        for index in [index for index in self.held if index not in plan]:
            await self.finish(index, await self.answer_from_home(index))

    async def give_back(self, index: int) -> None:
        """Take the mark from a line that surely was not sent."""
        await self.store.delete(self.batch.lines_kind, self.batch.owner, _id(index))

    async def finish(self, index: int, result: dict[str, Any]) -> None:
        """Keep what came of a line."""
        grows = len(canonical_bytes(result)) - self.held.get(index, (None, 0))[1]
        if grows > 0 and self.num_bytes + grows > MAX_OUTPUT_BYTES:
            result = not_answered(result["custom_id"], "output_too_large", _TOO_MUCH)
        await self._keep(index, {"result": result})
        _, num_bytes = self.held.pop(index, (None, 0))
        self.num_bytes -= num_bytes
        self._count(result)

    async def put_together(self, files: Files) -> None:
        """Write the two files, under ids that are on record first: twice is as good as once."""
        results = [_result_of(one) for one in (await self._kept()).values()]
        fine = [one for one in results if _is_fine(one)]
        faults = [one for one in results if not _is_fine(one)]
        faults += await asyncio.to_thread(list, self._never_asked())
        counts = replace(self.batch.counts, failed=len(faults))
        self.batch = replace(self.batch, counts=counts)
        if self.batch.output_file_id is not None and fine:
            await self._write(files, self.batch.output_file_id, "output", fine)
        if self.batch.error_file_id is not None and faults:
            await self._write(files, self.batch.error_file_id, "error", faults)
        self.batch = replace(
            self.batch.now(self.ends_as),
            output_file_id=self.batch.output_file_id if fine else None,
            error_file_id=self.batch.error_file_id if faults else None,
        )

    async def clear(self) -> None:
        """Forget the lines: their results stand in the files."""
        await self.store.clear(self.batch.lines_kind, self.batch.owner)
        await self.store.clear(self._plan_kind, self.batch.owner)

    def finalizing(self) -> Batch:
        """The batch with the ids of its files."""
        batch = self.batch
        if batch.status is not Status.FINALIZING:
            batch = replace(
                batch.now(Status.FINALIZING),
                output_file_id=new_id("file"),
                error_file_id=new_id("file"),
            )
        return batch

    def _never_asked(self) -> Iterator[dict[str, Any]]:
        if self.ends_as in _LEFT:
            for index in self.left:
                yield not_answered(self.lines[index].custom_id, *_LEFT[self.ends_as])

    async def _write(
        self, files: Files, id_: str, what: str, results: list[dict[str, Any]]
    ) -> None:
        name = f"{self.batch.id}_{what}.jsonl"
        content = await asyncio.to_thread(told, results)
        await files.write(self.batch.owner, id_, name, content, self.batch.output_ttl_s)

    async def _kept(self) -> dict[str, dict[str, Any]]:
        """The marks and results so far, in the order of the lines."""
        kept = await self.store.all(self.batch.lines_kind, self.batch.owner)
        return await asyncio.to_thread(lambda: {id_: json.loads(data) for id_, data in kept})

    async def _keep(self, index: int, value: dict[str, Any]) -> None:
        batch, data = self.batch, json.dumps(value).encode()
        ttl_s = batch.line_ttl_s()
        await self.store.put(
            batch.lines_kind, batch.owner, _id(index), data, ttl_s=ttl_s, quota=None
        )

    @property
    def _plan_kind(self) -> str:
        return f"{self.batch.lines_kind}.plan"

    def _hold(self, index: int, held: Held, result: dict[str, Any]) -> None:
        size = len(canonical_bytes(result))
        self.held[index] = (held, size)
        self.num_bytes += size

    def _count(self, result: dict[str, Any]) -> None:
        self.num_bytes += len(canonical_bytes(result))
        counts, usage = self.batch.counts, self.batch.usage
        if _is_fine(result):
            counts = replace(counts, completed=counts.completed + 1)
            taken, given = tokens_of(result["response"]["body"])
            usage = Usage(usage.input_tokens + taken, usage.output_tokens + given)
        else:
            counts = replace(counts, failed=counts.failed + 1)
        self.batch = replace(self.batch, counts=counts, usage=usage)
        self.is_dirty = True


def _is_fine(result: dict[str, Any]) -> bool:
    response = result["response"]
    return response is not None and response["status_code"] == 200


def _result_of(kept: dict[str, Any]) -> dict[str, Any]:
    """What is told of a line: its result, else its answer from home, else that it was cut off."""
    for name in ("result", "answer"):
        if name in kept:
            return dict(kept[name])
    return interrupted(kept["custom_id"], kept["request_id"])


def _held_of(raw: dict[str, Any]) -> Held:
    features = raw["features"]
    return Held(
        is_answered=raw["is_answered"],
        features=None if features is None else tuple(features),
        prompt_tokens=raw["prompt_tokens"],
        reach=tuple((model, where) for model, where in raw["reach"]),
        num_answers=raw.get("num_answers", 1),  # an older proxy kept none
    )


def _id(index: int) -> str:
    return f"{index:06d}"
