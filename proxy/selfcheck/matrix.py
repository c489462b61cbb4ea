"""Runs the matrix against a proxy whose cloud is the recorder, and says what came of each cell.

A cell leaks when its value arrived at the recorder, in any form, or in an answer to another
request. The control is run each time: with nothing in between, every cell has to be seen leaking.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.selfcheck.canaries import MARKER
from proxy.selfcheck.cells import Cell, Condition, Probe
from proxy.selfcheck.recorder import Recorded, Recorder
from proxy.selfcheck.traces import Searcher, readable
from proxy.selfcheck.wire import Answer, Target, as_recorded, send_all


class Outcome(enum.Enum):
    """What came of a cell."""

    LEAKED = "leaks"
    STAYED = "stays home, its harmless twin leaves"
    CLEANED = "leaves without the value"
    SHUT = "stays home, and so does its harmless twin"
    SILENT = "got no answer"


@dataclass(frozen=True, slots=True)
class Result:
    """A cell and what came of it; ``seen`` says where and in which form the value was."""

    cell: Cell
    outcome: Outcome
    status: int | None
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """All results, with what they were made from.

    ``unseen``: cells that the search would have missed with nothing in between; their results
    show nothing, and there must be none.
    """

    results: tuple[Result, ...]
    unseen: tuple[Cell, ...]
    num_arrived: int
    answers: tuple[Answer, ...] = field(repr=False, default=())

    @property
    def leaks(self) -> tuple[Result, ...]:
        """The cells that leak."""
        return self.of(Outcome.LEAKED)

    def of(self, outcome: Outcome) -> tuple[Result, ...]:
        """The results with an outcome."""
        return tuple(result for result in self.results if result.outcome is outcome)


class Faults:
    """Lets the recorder fail the first request of each probe that asks for it."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._lock = threading.Lock()
        self._due = {
            probe.marker.encode() for probe in probes if probe.cell.condition is Condition.UPSTREAM
        }

    def __call__(self, recorded: Recorded) -> bool:
        """Whether this request is to fail."""
        words = set(MARKER.findall(readable(recorded.body, recorded.headers)))
        with self._lock:
            hit = words & self._due
            self._due -= hit
        return bool(hit)


def searcher_of(probes: Sequence[Probe]) -> Searcher:
    """What finds the values of all ``probes``."""
    return Searcher(trace for probe in probes for trace in probe.traces())


def run(
    target: Target,
    recorder: Recorder,
    probes: Sequence[Probe],
    *,
    done: Callable[[], None] = lambda: None,
) -> Run:
    """Send ``probes``, each cell beside its twin, and judge what arrived at ``recorder``."""
    recorder.fails = Faults(probes)
    before = len(recorder.requests)
    answers = send_all(target, probes, done=done)
    return judge(probes, answers, recorder.requests[before:], target.models)


def judge(
    probes: Sequence[Probe],
    answers: Sequence[Answer],
    recorded: Sequence[Recorded],
    models: Sequence[str],
) -> Run:
    """What came of each cell."""
    searcher = searcher_of(probes)
    markers = {probe.marker.encode(): probe.index for probe in probes}
    seen: dict[int, set[str]] = {}
    arrived: set[int] = set()
    for request in recorded:
        told = readable(request.body, request.headers, request.path)
        arrived |= {markers[word] for word in MARKER.findall(told) if word in markers}
        for owner, form in searcher.find(told).items():
            place = request.path.partition("?")[0]
            seen.setdefault(owner, set()).add(f"{form}, at the cloud ({place})")
    for answer in answers:
        for owner, form in searcher.find(answer.told).items():
            if owner != answer.probe:
                seen.setdefault(owner, set()).add(f"{form}, in an answer to another request")
    statuses = {answer.probe: answer.status for answer in reversed(answers)}
    results = tuple(
        _result(probe, twin.index in arrived, probe.index in arrived, statuses, seen)
        for probe, twin in zip(probes[::2], probes[1::2], strict=True)
    )
    unseen = tuple(
        probe.cell
        for probe in probes[::2]
        if probe.index not in searcher.find(_direct(probe, models[0]))
    )
    return Run(results, unseen, len(recorded), tuple(answers))


def _direct(probe: Probe, model: str) -> bytes:
    request = as_recorded(probe, model)
    return readable(request.body, request.headers, request.path)


def _result(
    probe: Probe,
    twin_arrived: bool,
    arrived: bool,
    statuses: dict[int, int | None],
    seen: dict[int, set[str]],
) -> Result:
    status = statuses.get(probe.index)
    if ways := seen.get(probe.index):
        return Result(probe.cell, Outcome.LEAKED, status, tuple(sorted(ways)))
    if arrived:
        return Result(probe.cell, Outcome.CLEANED, status)
    if status is None:
        return Result(probe.cell, Outcome.SILENT, status)
    return Result(probe.cell, Outcome.STAYED if twin_arrived else Outcome.SHUT, status)
