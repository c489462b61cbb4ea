"""Runs the batches, line by line, as live requests: the same parser, the same pipeline.

One process of a machine runs them, the one that holds a lock which the kernel takes from it when
it ends; so no two ever run the same batch. Few lines are under way at once, so that live traffic
finds room. It must never ask a line again that may have left.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from audit.disk import take_lock
from proxy.api.answer import Answerer, answer_in_time
from proxy.api.auth import AuthenticationError, KeyTable
from proxy.api.batch import Batch, Batches, LineError, Status
from proxy.api.batch_lines import Limits, Lines, answered, read_lines, route_of
from proxy.api.batch_run import Run
from proxy.api.files import Files
from proxy.api.reply import fault_body
from proxy.api.wire import parse_request
from proxy.errors import BLOCKED, NOTHING_LEFT, RequestError
from proxy.holding import HOLD, Held
from proxy.ids import new_id
from proxy.objects import ObjectStore
from proxy.pins.store import PinStoreError
from proxy.routes.chat import CHAT
from proxy.types import AUTO_MODEL, JSONObject, Request

log = structlog.get_logger()

#: Batches in memory at once, one of a key; a file may have tens of megabytes.
MAX_RUNS: Final = 8
#: How often new batches, wishes to cancel and a free lock are looked for.
LOOK_S: Final = 0.5
#: How long lines under way may go on when the proxy stops.
GRACE_S: Final = 10.0
#: Waits before a line is asked again that surely did not leave.
RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)


#: What comes of a line that no answer is given to, not even one from before: policy blocks it, or
#: what it was told could not be pinned.
_WITHDRAWN: Final = frozenset({BLOCKED, PinStoreError.code})

#: For each line the cloud model to ask; None: its answer from home stands. Takes long.
Plans = Callable[[Sequence[Held]], list[str | None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How the runner runs; ``num_at_once`` lines of all batches together."""

    num_at_once: int
    timeout_s: float
    limits: Limits
    retry_s: tuple[float, ...] = RETRY_S
    grace_s: float = GRACE_S


class BatchRunner:
    """Runs what `Batches` keeps."""

    def __init__(
        self,
        answerer: Answerer,
        batches: Batches,
        files: Files,
        keys: KeyTable,
        pace: Pace,
        plans: Plans | None = None,
    ) -> None:
        """``plans`` says of all lines of a batch, once they are answered at home, which are worth
        a cloud model; None: each line goes its way at once.
        """
        self._plans = plans
        self._answerer = answerer
        self._batches = batches
        self._files = files
        self._keys = keys
        self._pace = pace
        self._runs: dict[str, Run] = {}  # by owner: one batch of a key at a time
        self._planning: dict[str, asyncio.Task[None]] = {}  # by owner
        self._there_is_work = asyncio.Event()
        self._is_stopping = False

    async def run(self, store: ObjectStore, folder: Path) -> None:
        """Run batches until cancelled, once the lock of ``folder`` is free."""
        lock = await _lock_of(folder)
        try:
            await self._run_alone(store)
        finally:
            os.close(lock)

    async def _run_alone(self, store: ObjectStore) -> None:
        """Run batches until cancelled; no worker is left at the end."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._pace.num_at_once)]
        try:
            while True:
                await self._look(store)
                await asyncio.sleep(LOOK_S)
        finally:
            self._is_stopping = True
            self._there_is_work.set()
            for planning in self._planning.values():
                planning.cancel()
            workers += self._planning.values()
            try:
                await asyncio.wait(workers, timeout=self._pace.grace_s)
            finally:  # also if it is cancelled once more
                for worker in workers:
                    worker.cancel()
                await asyncio.wait(workers)

    async def _look(self, store: ObjectStore) -> None:
        """Take in what is new, and see to what is under way."""
        try:
            await self._take_in(store)
            for owner, run in list(self._runs.items()):
                await self._tend(owner, run)
        except Exception as error:  # noqa: BLE001 - the boundary: the next look may do better
            log.error("batches_unavailable", error=error)

    async def _take_in(self, store: ObjectStore) -> None:
        for owner, id_ in await self._batches.open():
            if owner in self._runs or len(self._runs) >= MAX_RUNS:
                continue
            batch = await self._batches.load(owner, id_)
            if batch is None:  # it is being made, or its time is up
                continue
            if batch.status.is_final:  # the process ended before it could put things away
                await self._put_away(Run.stopped(batch, store, batch.errors))
                continue
            run = await self._run_of(batch, store)
            await self._check(run)
            self._runs[owner] = run
            self._there_is_work.set()

    async def _run_of(self, batch: Batch, store: ObjectStore) -> Run:
        """``batch``, ready to go on; without lines where it cannot."""
        if self._keys.caller(batch.owner) is None:
            fault = LineError("invalid_api_key", "The key that made this batch is not known.")
            return Run.stopped(batch, store, (fault,))
        try:
            content = await self._files.content(batch.owner, batch.input_file_id)
        except RequestError as error:
            fault = LineError(error.code, "The batch's file is not there.", None, "input_file_id")
            return Run.stopped(batch, store, (fault,))
        limits = self._pace.limits
        lines = await asyncio.to_thread(read_lines, content, batch.endpoint, limits)
        if not isinstance(lines, Lines):
            return Run.stopped(batch, store, lines)
        if batch.status is Status.VALIDATING:
            batch = batch.now(Status.IN_PROGRESS)
        return await Run.resumed(batch, lines, store)

    async def _check(self, run: Run) -> None:
        """Let no further line begin once the batch is cancelled, or its time is up."""
        if run.ends_as is not Status.COMPLETED:
            return
        at = await self._batches.cancelled_at(run.batch)
        if at is not None:
            run.batch = replace(run.batch, times={**run.batch.times, "cancelling_at": at})
            run.ends_as = Status.CANCELLED
        elif time.time() >= run.batch.expires_at:
            run.ends_as = Status.EXPIRED

    async def _tend(self, owner: str, run: Run) -> None:
        await self._check(run)
        is_planning = owner in self._planning
        if run.wants_plan and not is_planning:  # takes long, and the others are not to wait
            planning = self._planning[owner] = asyncio.create_task(self._plan(run))
            planning.add_done_callback(lambda _: self._planning.pop(owner))
        elif run.is_broken and run.num_running == 0 and not is_planning:
            del self._runs[owner]
        elif run.is_over and not is_planning:
            run.batch = run.finalizing()
            await self._batches.save(run.batch)
            await run.put_together(self._files)
            await self._batches.save(run.batch)
            await self._put_away(run)
            del self._runs[owner]
        elif run.is_dirty:
            run.is_dirty = False
            await self._batches.save(run.batch)

    async def _put_away(self, run: Run) -> None:
        """Keep nothing of a batch that is over but its state and its files."""
        await run.clear()
        await self._batches.close(run.batch.owner, run.batch.id)

    async def _work(self) -> None:
        """Ask one line after another, of each key in turn."""
        while not self._is_stopping:
            await self._there_is_work.wait()
            owner = next((one for one, run in self._runs.items() if run.has_work), None)
            if owner is None:
                self._there_is_work.clear()
                continue
            run = self._runs[owner] = self._runs.pop(owner)
            index, model = run.next()
            run.num_running += 1
            try:
                if model is None:
                    await self._ask(run, index)
                else:
                    await self._ask_again(run, index, model)
            except Exception as error:  # noqa: BLE001 - the boundary: the batch is taken up anew
                log.error("batch_line_failed", error=error)
                run.is_broken = True
            finally:
                run.num_running -= 1

    async def _ask(self, run: Run, index: int) -> None:
        """Ask one line, and again after a fault that passes and let nothing leave."""
        line = run.lines[index]
        for wait_s in (*self._pace.retry_s, None):
            request_id = new_id("req")
            try:
                request = self._request(run.batch, line.body, request_id)
                request = self._held(request)
            except RequestError as error:
                refused = answered(line.custom_id, *fault_body(error), request_id, None)
                await run.finish(index, refused)
                return
            is_held = request.plan == HOLD
            await run.begin(index, line.custom_id, request_id, is_held=is_held)
            status, body, decision_id, held = await self._answer(request)
            if wait_s is None or not _passes(status, body):
                break
            await run.give_back(index)
            await asyncio.sleep(wait_s)
            if self._is_stopping or not run.may_begin:
                run.left.appendleft(index)
                return
        result = answered(line.custom_id, status, body, request_id, decision_id)
        if held is None:
            await run.finish(index, result)
        else:
            await run.hold(index, result, held)

    def _held(self, request: Request) -> Request:
        """``request``, which stays at home for now if a plan will say where it is worth to go."""
        chooses = request.route == CHAT.name and request.model == AUTO_MODEL
        return replace(request, plan=HOLD) if chooses and self._plans is not None else request

    async def _ask_again(self, run: Run, index: int, model: str) -> None:
        """Ask ``model`` for a line that has an answer from home; once, and that answer stands
        where no better one comes.
        """
        line, request_id = run.lines[index], new_id("req")
        home = await run.answer_from_home(index)
        await run.begin_again(index, line.custom_id, request_id)
        request = replace(self._request(run.batch, line.body, request_id), plan=model)
        stands = home["response"]["status_code"] == 200
        if stands:  # policy may have changed since, and pins it now
            request = replace(request, told=home["response"]["body"])
        status, body, decision_id, _ = await self._answer(request)
        result = answered(line.custom_id, status, body, request_id, decision_id)
        is_better = status == 200 or not stands or _withdraws(body)
        await run.finish(index, result if is_better else home)

    async def _plan(self, run: Run) -> None:
        """Plan ``run``, which is taken up anew where that fails."""
        try:
            await self._settle(run)
        except Exception as error:  # noqa: BLE001 - the boundary: the batch is taken up anew
            log.error("batch_not_settled", error=error)
            run.is_broken = True

    async def _settle(self, run: Run) -> None:
        """Settle which held lines of ``run`` are asked again; none of one that ends early."""
        plan = run.plan or {}
        if run.plan is None and run.may_begin and self._plans is not None:
            indexes = list(run.held)
            held = [run.held[index][0] for index in indexes]
            try:
                models = await asyncio.to_thread(self._plans, held)
            except Exception as error:  # noqa: BLE001 - the boundary: no plan costs an answer
                log.error("batch_not_planned", error=error)
                models = [None] * len(held)
            plan = {i: model for i, model in zip(indexes, models, strict=True) if model}
        await run.settle(plan if run.may_begin else {})
        self._there_is_work.set()

    def _request(self, batch: Batch, body: JSONObject, request_id: str) -> Request:
        """A line as the request it would be live.

        Raises:
            RequestError: it would be refused.
        """
        caller = self._keys.caller(batch.owner)
        if caller is None:
            raise AuthenticationError("This API key is not known.")
        if body.get("stream") not in (None, False):
            raise RequestError(
                "A line of a batch is not streamed.", code="unsupported_parameter", param="stream"
            )
        route = route_of(batch.endpoint)
        now = datetime.now(UTC)
        request = parse_request(route, body, caller, request_id=request_id, received_at=now)
        kept_s = batch.line_ttl_s() + self._files.kept_s(batch.output_ttl_s)
        return replace(request, kept_s=kept_s)

    async def _answer(self, request: Request) -> tuple[int, JSONObject, str | None, Held | None]:
        started = time.perf_counter()
        told: tuple[int, JSONObject, str | None]
        held = None
        try:
            response = await answer_in_time(self._answerer, request, self._pace.timeout_s)
            told, held = (response.http_status, response.body, response.decision_id), response.held
        except Exception as error:  # noqa: BLE001 - the boundary, as `proxy.api.app` has it
            if not isinstance(error, RequestError):
                log.error("request_failed", request_id=request.request_id, error=error)
            told = (*fault_body(error), getattr(error, "decision_id", None))
        log.info(
            "batch_line",
            request_id=request.request_id,
            decision_id=told[2],
            route=request.route,
            http_status=told[0],
            elapsed_ms=round((time.perf_counter() - started) * 1000, 1),
        )
        return (*told, held)


def _passes(status: int, body: JSONObject) -> bool:
    """Whether it may go better later, and nothing left meanwhile."""
    match body.get("error"):
        case {"code": str(code)}:
            return status == 429 or code in NOTHING_LEFT
    return False


def _withdraws(body: JSONObject) -> bool:
    """Whether a line whose answer this is may not have another one that was given before."""
    match body.get("error"):
        case {"code": str(code)}:
            return code in _WITHDRAWN
    return False


async def _lock_of(folder: Path) -> int:
    """The lock of ``folder``, waited for: its holder runs the batches."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = take_lock(folder)
            if lock is not None:
                return lock
        except OSError as error:
            log.error("batches_unavailable", error=error)
        await asyncio.sleep(LOOK_S)
