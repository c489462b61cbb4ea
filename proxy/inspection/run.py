"""Inspects a request: surface, then all detectors in processes of their own, with a deadline.

Whatever was not inspected by the deadline, or by a detector that failed, is unscannable. An
inspection that does not add up is an error, never a pass.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from proxy.errors import InspectionError
from proxy.inspection.cache import ReadingCache
from proxy.inspection.files import Extract, Ocr
from proxy.inspection.loading import CONFIG_VARIABLE
from proxy.inspection.plan import Plan, conclude, plan
from proxy.inspection.reading import Reading
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.surface import surface
from proxy.inspection.worker import Result, Versions, Worker, WorkerLost
from proxy.turns import Room, Turns
from proxy.types import Inspection, JSONObject, Segment, UnscannableReason

log = structlog.get_logger()

T = TypeVar("T")

#: Texts are handed to a process in batches of this size: large enough for models, small enough
#: that requests take turns and that a lost process costs little.
BATCH_CHARS: Final = 12_000
BATCH_TEXTS: Final = 64

#: Requests inspected at the same time, half of them of one caller; the others are refused, since
#: their bodies fill memory.
MAX_REQUESTS: Final = 512

#: How much later than a worker's own deadline it is ended from outside.
_GRACE_S: Final = 0.25


@dataclass(slots=True)
class _Job:
    """The inspection of one request, under way; the only mutable value of this room."""

    plan: Plan
    caller: str
    deadline: float
    batches: deque[list[Segment]]
    digests: dict[int, bytes] = field(repr=False)
    readings: dict[int, Reading]
    recognizers: Recognizers = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Order:
    """What a worker is asked for: a batch, whose turn it takes, and by when."""

    batch: list[Segment] = field(repr=False)
    caller: str
    deadline: float
    recognizers: Recognizers = field(default=NO_RECOGNIZERS, repr=False)

    @property
    def is_brief(self) -> bool:
        """Whether it is short: no file, and no text that is longer than a batch."""
        is_text = all(segment.blob is None for segment in self.batch)
        return is_text and sum(len(one.text or "") for one in self.batch) <= BATCH_CHARS


class ProcessInspector:
    """The `Inspector` that runs detectors in worker processes, never on the event loop."""

    def __init__(self, *, num_workers: int, timeout_s: float, config: DetectorConfig) -> None:
        self._num_workers = num_workers
        self._timeout_s = timeout_s
        self._config = config
        self._threads = ThreadPoolExecutor(num_workers + 2, thread_name_prefix="inspection")
        self._turns: Turns[Worker] = Turns(num_workers)
        self._alive: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cache = ReadingCache()
        self._versions: Versions = ()
        self._room = Room(MAX_REQUESTS)
        self._closing = False

    @property
    def versions(self) -> Versions:
        """Names and versions of the detectors, sorted; empty before `start`."""
        return self._versions

    async def start(self) -> None:
        """Start the processes and wait for their models.

        Raises:
            InspectionError: they do not start.
        """
        os.environ[CONFIG_VARIABLE] = self._config.to_json()
        failed = False
        try:
            for _ in range(self._num_workers):
                await self._add_worker()
        except WorkerLost:
            failed = True
        if failed:
            await self.aclose()
            raise InspectionError("The detectors do not start.")

    async def aclose(self) -> None:
        """End every process; a second time, nothing."""
        if self._closing:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        for worker in tuple(self._alive):
            await self._in_thread(worker.kill)
        self._threads.shutdown(wait=False)

    async def inspect(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
    ) -> Inspection:
        """Inspect ``body``; see `Inspector`."""
        if not self._room.take(caller):
            raise InspectionError("Too many requests are being inspected.")
        try:
            deadline = time.monotonic() + self._timeout_s
            found = await asyncio.to_thread(surface, body, pictures=self._config.ocr is not Ocr.OFF)
            reads = await asyncio.gather(
                *(self._extract(file, caller, deadline) for file in found.files)
            )
            extracts = {file.index: read for file, read in zip(found.files, reads, strict=True)}
            planned = await asyncio.to_thread(plan, body, found, extracts)
            job = await asyncio.to_thread(self._prepare, planned, recognizers, caller, deadline)
            runners = [self._work(job) for _ in range(min(len(job.batches), self._num_workers))]
            await asyncio.gather(*runners)
            return await asyncio.to_thread(self._conclude, job)
        finally:
            self._room.give_back(caller)

    def _prepare(
        self, planned: Plan, recognizers: Recognizers, caller: str, deadline: float
    ) -> _Job:
        versions = repr((self._versions, recognizers.version))
        digests = {text.index: self._cache.digest(text, versions) for text in planned.texts}
        known = {index: self._cache.get(digest) for index, digest in digests.items()}
        readings = {index: reading for index, reading in known.items() if reading is not None}
        missing = (text for text in planned.texts if text.index not in readings)
        waiting = deque(batches(missing))
        return _Job(planned, caller, deadline, waiting, digests, readings, recognizers)

    def _conclude(self, job: _Job) -> Inspection:
        versions = tuple(sorted((*self._versions, *job.recognizers.versions)))
        return conclude(
            job.plan, job.readings, languages=self._config.languages, detectors=versions
        )

    async def _work(self, job: _Job) -> None:
        """Take batch after batch of one request; others come to a worker in between."""
        while job.batches:
            batch = job.batches.popleft()
            readings = await self._read(batch, job)
            for segment, reading in zip(batch, readings, strict=True):
                job.readings[segment.index] = reading
                self._cache.put(job.digests[segment.index], reading)

    async def _read(self, batch: list[Segment], job: _Job) -> Sequence[Reading]:
        """A reading for each segment; one that says why, where there is none."""
        result = await self._ask(_Order(batch, job.caller, job.deadline, job.recognizers))
        if isinstance(result, UnscannableReason):
            return [Reading(reason=result)] * len(batch)
        return result.readings

    async def _extract(self, file: Segment, caller: str, deadline: float) -> Extract:
        """The texts of a file, or why there are none."""
        result = await self._ask(_Order([file], caller, deadline))
        if isinstance(result, UnscannableReason):
            return Extract(reason=result)
        return result.extract or Extract(reason=UnscannableReason.DETECTOR_FAILED)

    async def _ask(self, order: _Order) -> Result | UnscannableReason:
        """What a worker made of an order, or why none did by the deadline."""
        try:
            async with asyncio.timeout(max(order.deadline - time.monotonic(), 0)):
                worker = await self._turns.take(order.caller, brief=order.is_brief)
        except TimeoutError:
            return UnscannableReason.DETECTOR_TIMEOUT
        # A client that hangs up must not take the worker with it: the run goes on to its end.
        run = asyncio.ensure_future(self._run(worker, order))
        try:
            return await asyncio.shield(run)
        except WorkerLost as lost:
            late, dead = UnscannableReason.DETECTOR_TIMEOUT, UnscannableReason.DETECTOR_FAILED
            return late if lost.late else dead

    async def _run(self, worker: Worker, order: _Order) -> Result:
        """Have a worker read, at its caller's cost, and give it on."""
        started = time.monotonic()
        try:
            result = await self._read_by(worker, order)
        finally:
            cost = time.monotonic() - started
            self._turns.done(order.caller, cost, brief=order.is_brief)
        if result.is_spent:
            await self._retire(worker)
        else:
            self._turns.add(worker)
        return result

    async def _read_by(self, worker: Worker, order: _Order) -> Result:
        timeout_s = order.deadline - time.monotonic()
        run = asyncio.ensure_future(
            self._in_thread(worker.run, order.batch, timeout_s, order.recognizers)
        )
        done, _ = await asyncio.wait({run}, timeout=max(timeout_s, 0) + _GRACE_S)
        if not done:  # it does not even take its input
            worker.end()
        lost: WorkerLost | None = None
        try:
            result = await run
        except WorkerLost as error:
            lost = WorkerLost(late=error.late or not done)
        if lost is not None:
            log.error("detector_lost", reason="late" if lost.late else "dead")
            self._alive.discard(worker)
            self._replace()
            raise lost
        if result.failed:
            log.error("detector_failed", code=",".join(result.failed))
        return result

    async def _retire(self, worker: Worker) -> None:
        """Replace a process that has grown too large."""
        self._alive.discard(worker)
        await self._in_thread(worker.kill)
        self._replace()

    def _replace(self) -> None:
        if not self._closing:
            task = asyncio.ensure_future(self._keep_trying())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _keep_trying(self) -> None:
        """Start a worker; while that fails, requests are unscannable, and it is tried again."""
        while True:
            try:
                return await self._add_worker()
            except WorkerLost:
                log.error("detector_does_not_start")
                await asyncio.sleep(1.0)

    async def _add_worker(self) -> None:
        worker = await self._in_thread(Worker, self._config)
        self._alive.add(worker)
        try:
            self._versions = await self._in_thread(worker.start)
        except WorkerLost:
            self._alive.discard(worker)
            raise
        self._turns.add(worker)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def batches(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Segments in batches of bounded size, in order; a long one is a batch of its own."""
    made: list[list[Segment]] = []
    room = 0
    for segment in segments:
        size = len(segment.text or "")
        if not made or size > room or len(made[-1]) >= BATCH_TEXTS:
            made.append([])
            room = BATCH_CHARS
        made[-1].append(segment)
        room -= size
    return made
