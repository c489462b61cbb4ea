"""Reads every stored line of every chain and says what is wrong with it, without any key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from errno import ENOENT
from pathlib import Path
from typing import Final

from audit.chain import GENESIS, BadLine, digest, read_line
from audit.merkle import leaf_hash
from audit.replay import WAL
from audit.retention import KINDS as RETENTION_KINDS
from audit.segments import (
    BadSegment,
    Segment,
    chain_folders,
    has_segment,
    read_segment,
    removed_leaf,
    segments_of,
)
from audit.sinks.file import SUFFIX
from audit.vault import ERASURE, Answered, Captured, answered_of, captured_of, erased_of

#: Honest limits of what a ledger can prove.
LIMITS: Final = (
    "A ledger put back as a whole to an earlier state shows only against a checkpoint kept "
    "elsewhere (--not-older-than), and one rewritten with new keys only against a key kept "
    "elsewhere (--key).",
    "A valid ledger proves what was recorded, not that the detection was right.",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at ``line`` (from 1; 0: the file itself) of ``file`` within the ledger."""

    file: str
    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class PrunedSegment:
    """A segment of which ``num_removed`` records have given way to their hashes.

    Attributes:
        file: its name within the ledger.
        first: the number of its first record; ``end`` that after the last.
        digest: ``sha256:…`` of the file.
    """

    file: str
    first: int
    end: int
    digest: str
    num_removed: int


@dataclass(slots=True)
class Report:
    """What a check found."""

    num_chains: int = 0
    num_records: int = 0
    kinds: dict[str, int] = field(default_factory=dict)  # not a Counter: asdict spoils those
    faults: list[Fault] = field(default_factory=list)
    open_intents: int = 0
    open_chains: int = 0
    torn_tails: list[str] = field(default_factory=list)
    num_checkpoints: int = 0
    num_unsealed: int = 0
    sealed_until: str = ""
    exposed_s: float = 0.0
    longest_silence_s: float = 0.0
    key: str = ""
    num_captured: int = 0
    num_erased: int = 0
    num_answers: int = 0
    num_lost_answers: int = 0
    num_orphans: int = 0
    unfinished_erasures: list[str] = field(default_factory=list)
    num_removed: int = 0
    removals: list[dict[str, str | int]] = field(default_factory=list)
    unfinished_removals: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def fault(self, file: str, line: int, problem: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(file, line, problem))


@dataclass(slots=True)
class ChainFacts:
    """What the stored lines of one chain say, for the checkpoints to be held against."""

    name: str
    hashes: list[bytes] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    first_intent: int | None = None
    newest_known_head: int = -1
    end: str | None = None
    is_torn: bool = False
    captures: list[tuple[str, int, Captured]] = field(default_factory=list)
    answers: list[tuple[str, int, Answered]] = field(default_factory=list)
    erasures: set[str] = field(default_factory=set)
    pruned: list[PrunedSegment] = field(default_factory=list)
    retention: list[tuple[int, dict[str, object]]] = field(default_factory=list)


def read_chains(directory: Path, report: Report) -> dict[str, ChainFacts]:
    """Check every chain under ``directory`` line by line.

    Raises:
        FileNotFoundError: there is no ledger there.
    """
    wal = directory / WAL
    if not wal.is_dir():
        raise FileNotFoundError(ENOENT, "it has no wal folder")
    chains = {}
    for folder in chain_folders(wal):  # a crash before the first line leaves an empty folder
        try:
            chains[folder.name] = _ChainCheck(directory, folder, report).run()
        except FileNotFoundError:
            if has_segment(folder):
                raise
            continue  # a start took it away meanwhile: it was empty, or the checkpoints miss it
        report.num_chains += 1
    return chains


class _ChainCheck:
    """Walks one chain line by line."""

    def __init__(self, root: Path, folder: Path, report: Report) -> None:
        self._root = root
        self._folder = folder
        self._report = report
        self._facts = ChainFacts(folder.name)
        self._prev: str | None = GENESIS  # None: the record before it was removed
        self._seq = 0
        self._intents: set[str] = set()
        self._closed_intents: set[str] = set()
        self._last_kind = ""

    def run(self) -> ChainFacts:
        segments = segments_of(self._folder)
        for segment in segments:
            if segment.stem != f"{self._seq:012d}":
                self._fault(segment.path, 0, f"the segment should begin with record {self._seq}")
            try:
                now, data = read_segment(segment)
            except BadSegment:
                self._fault(segment.path, 0, "it cannot be unpacked")
                continue
            self._segment(now, data, is_last=segment is segments[-1])
        self._report.open_intents += len(self._intents - self._closed_intents)
        is_closed = self._last_kind == "chain.closed" or (segments and segments[-1].is_pruned)
        self._report.open_chains += not is_closed
        return self._facts

    def _segment(self, segment: Segment, data: bytes, *, is_last: bool) -> None:
        *lines, tail = data.split(b"\n")
        first, num_removed = self._seq, 0
        for number, line in enumerate(lines, start=1):
            if segment.is_pruned and (leaf := removed_leaf(line)) is not None:
                self._removed(leaf)
                num_removed += 1
            else:
                self._line(segment.path, number, line)
        if segment.is_pruned:
            digest_ = f"sha256:{hashlib.sha256(data).hexdigest()}"
            self._facts.pruned.append(
                PrunedSegment(self._name(segment.path), first, self._seq, digest_, num_removed)
            )
        is_open = segment.suffix == SUFFIX and self._last_kind != "chain.closed"
        if tail and is_last and is_open:
            self._facts.is_torn = True
            self._report.torn_tails.append(self._name(segment.path))
        elif tail:
            self._fault(segment.path, len(lines) + 1, "bytes after the last whole line")

    def _removed(self, leaf: bytes) -> None:
        """A record of which the hash alone is left; whether that is on record is seen later."""
        self._facts.hashes.append(leaf)
        self._facts.times.append("")
        self._prev = None
        self._seq += 1

    def _line(self, segment: Path, number: int, line: bytes) -> None:
        time = ""
        try:
            members = read_line(line)
        except BadLine as error:
            self._fault(segment, number, str(error))
        else:
            self._links(segment, number, members)
            self._meaning(segment, number, members)
            time = str(members.get("time"))
        self._facts.hashes.append(leaf_hash(line))
        self._facts.times.append(time)
        self._prev = digest(line)
        self._seq += 1
        self._report.num_records += 1

    def _links(self, segment: Path, number: int, members: dict[str, object]) -> None:
        if self._prev is not None and members.get("prev") != self._prev:
            self._fault(segment, number, "the record before it is not the one it was written after")
        if members.get("seq") != self._seq:
            self._fault(segment, number, f"a record stands where record {self._seq} should")
        if members.get("chain") != self._folder.name:
            self._fault(segment, number, "the record belongs to another chain")
        if (members.get("kind") == "chain.opened") != (self._seq == 0):
            self._fault(segment, number, "a chain opens with chain.opened, once")
        if self._last_kind == "chain.closed":
            self._fault(segment, number, "a record after the end of its chain")

    def _meaning(self, segment: Path, number: int, members: dict[str, object]) -> None:
        facts = self._facts
        kind = self._last_kind = str(members.get("kind"))
        self._report.kinds[kind] = self._report.kinds.get(kind, 0) + 1
        known = members.get("sealed")
        facts.newest_known_head = max(
            facts.newest_known_head, known if isinstance(known, int) else -1
        )
        if kind == "chain.closed":
            facts.end = str(members.get("reason"))
        if kind == "egress.intent":
            self._intents.add(str(members.get("id")))
            facts.first_intent = self._seq if facts.first_intent is None else facts.first_intent
            if (captured := captured_of(members)) is not None:
                facts.captures.append((self._name(segment), number, captured))
        if kind == ERASURE and (ref := erased_of(members)) is not None:
            facts.erasures.add(ref)
        if kind in RETENTION_KINDS:
            facts.retention.append((self._seq, members))
        if kind == "egress.outcome":
            intent = str(members.get("intent_id"))
            if intent not in self._intents:
                self._fault(segment, number, "an outcome without an intent")
            if intent in self._closed_intents:
                self._fault(segment, number, "a second outcome for one intent")
            self._closed_intents.add(intent)
            if (answered := answered_of(members)) is not None:
                facts.answers.append((self._name(segment), number, answered))

    def _fault(self, path: Path, line: int, problem: str) -> None:
        self._report.fault(self._name(path), line, problem)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))
