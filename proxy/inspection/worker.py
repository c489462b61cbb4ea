"""A detector process: segments in, readings out; it dies with its parent and says nothing of text.

Processes are forked from a server that has the models loaded already, so that a new one is at hand
within a blink when one is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final

from proxy.inspection.custom import MAX_SETS, CustomSets
from proxy.inspection.detector import Detector
from proxy.inspection.files import Extract, Ocr, read_file
from proxy.inspection.reading import Reading, read_segments
from proxy.inspection.recognizers import CUSTOM, NO_RECOGNIZERS, Recognizers
from proxy.inspection.registry import DetectorConfig
from proxy.types import Segment

#: Longest wait for a fresh process to have its models loaded, in seconds.
START_TIMEOUT_S: Final = 60.0

#: A process that has grown by this since it started is replaced once it has answered, in bytes.
MAX_GROWTH_BYTES: Final = 320 * 2**20

#: The address space of a process may grow by this while it takes the text out of a file, in bytes.
#: Reading a small picture takes up to 1,024 MiB of it for a moment, most of which is never touched.
MAX_FILE_GROWTH_BYTES: Final = 256 * 2**20
MAX_PICTURE_GROWTH_BYTES: Final = 1536 * 2**20

#: Source: linux/prctl.h.
_PR_SET_PDEATHSIG: Final = 1

Versions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What the detectors made of some segments, one reading each, or what a file holds.

    ``failed`` names the detectors that raised; ``is_spent`` says that the process wants to go.
    """

    readings: tuple[Reading, ...]
    failed: tuple[str, ...]
    is_spent: bool = False
    extract: Extract | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """Segments to read, with the recognizers of this version, given where they may be missing."""

    segments: tuple[Segment, ...]
    version: str
    recognizers: Recognizers | None


class WorkerLost(Exception):
    """The process died or was late, and has been ended."""

    def __init__(self, *, late: bool) -> None:
        super().__init__("late" if late else "dead")
        self.late = late


class Worker:
    """One detector process. Its methods block: call them from a thread, one at a time."""

    def __init__(self, config: DetectorConfig) -> None:
        self._sets: list[str] = []  # versions of the recognizers sent, the newest last
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["proxy.inspection.preload"])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, config), daemon=True)
        lost = False
        try:
            self._process.start()
        except (EOFError, OSError):  # the fork server is gone, or could not load the models
            lost = True
        theirs.close()
        if lost:
            self._connection.close()
            raise WorkerLost(late=False)

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._process.pid

    def start(self) -> Versions:
        """Wait until the models are loaded; returns the detectors' names and versions.

        Raises:
            WorkerLost: it did not start.
        """
        versions: Versions = self._receive(START_TIMEOUT_S)
        return versions

    def run(
        self,
        segments: Sequence[Segment],
        timeout_s: float,
        recognizers: Recognizers = NO_RECOGNIZERS,
    ) -> Result:
        """Read texts with all detectors, or take the texts out of one file.

        Args:
            segments: segments with text, or a single blob.
            timeout_s: how long it may take.
            recognizers: those of the policy, which read texts as well.

        Raises:
            WorkerLost: no result within ``timeout_s``; the process is ended.
        """
        lost = False
        try:
            self._connection.send(self._job(tuple(segments), recognizers))
        except (OSError, ValueError):
            lost = True
        if lost:
            self.kill()
            raise WorkerLost(late=False)
        result: Result = self._receive(timeout_s)
        if CUSTOM in result.failed:  # perhaps it has lost them: the next job brings them again
            self._sets.clear()
        return result

    def _job(self, segments: tuple[Segment, ...], recognizers: Recognizers) -> _Job:
        """A job; with the recognizers themselves unless the process surely has them."""
        version = recognizers.version
        if not version:
            return _Job(segments, version, None)
        has_them = version in self._sets
        if has_them:
            self._sets.remove(version)
        self._sets = [*self._sets, version][-MAX_SETS:]
        return _Job(segments, version, None if has_them else recognizers)

    def end(self) -> None:
        """End the process, from any thread: a `run` that waits for it comes back."""
        with contextlib.suppress(AttributeError, ValueError):  # ended and closed already
            self._process.kill()

    def kill(self) -> None:
        """End the process, by its own id, whatever it is doing, and wait for its end."""
        self.end()
        self._process.join(5)
        self._connection.close()

    def _receive(self, timeout_s: float) -> Any:
        late = False
        try:
            if self._connection.poll(max(timeout_s, 0.0)):
                return self._connection.recv()
            late = True
        except (EOFError, OSError):
            late = False
        self.kill()
        raise WorkerLost(late=late)


def run_detectors(
    detectors: Sequence[Detector], segments: Sequence[Segment], languages: Sequence[str]
) -> Result:
    """Run every detector; one that raises is named, and none of its text is kept."""
    readings, failed = read_segments(segments, detectors, languages)
    return Result(readings, failed)


def _run_reader(file: Segment, ocr: Ocr) -> Result:
    """Read a file within bounded memory: a small one may unfold to more than there is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = _memory_pages(0) * resource.getpagesize()
    room = MAX_FILE_GROWTH_BYTES if ocr is Ocr.OFF else MAX_PICTURE_GROWTH_BYTES
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + room, before[1]))
    try:
        return Result((), (), extract=read_file(file.blob or b"", file.media_type, ocr))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _serve(connection: Connection, config: DetectorConfig) -> None:
    """The life of the process: answer until the parent is gone."""
    from proxy.inspection.loading import detectors_for

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold text
    with contextlib.suppress(BaseException):
        detectors = detectors_for(config)
        connection.send(tuple(sorted((d.name, d.version) for d in detectors)))
        _be_silent()
        at_start = _resident_bytes()
        sets = CustomSets()
        while True:
            job: _Job = connection.recv()
            if job.segments[0].blob is not None:
                result = _run_reader(job.segments[0], config.ocr)
            else:
                custom = sets.detectors(job.version, job.recognizers)
                result = run_detectors((*detectors, *custom), job.segments, config.languages)
            grown = _resident_bytes() > at_start + MAX_GROWTH_BYTES
            connection.send(replace(result, is_spent=grown))
    os._exit(0)


def _die_with_parent() -> None:
    """Have the kernel end this process when the fork server ends, which ends with the proxy."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _be_silent() -> None:
    """Whatever a library prints from here on may hold text."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)


def _resident_bytes() -> int:
    return _memory_pages(1) * resource.getpagesize()


def _memory_pages(field: int) -> int:
    """A field of this process's ``statm`` (proc(5)): 0 is all, 1 what is resident; 0 if unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[field])
    except OSError:
        return 0
