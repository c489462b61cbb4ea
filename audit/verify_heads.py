"""Holds the checkpoints against the stored lines: signatures, order, roots, and what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.checkpoint import (
    NO_HEAD,
    TLOG,
    Head,
    head_indexes,
    head_path,
    note_digest,
    read_head,
    text_of,
)
from audit.epochs import KEYS, Epoch, read_epochs, signed_head
from audit.merkle import Edge
from audit.note import BadNote, verifier_key
from audit.places import Places
from audit.verify_chains import ChainFacts, Report


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a ledger as they are stored.

    ``settled`` is the newest checkpoint that stood there before the lines were read: the lines that
    later ones seal may have come after the reading, as a ledger may be checked while it is written.
    """

    ledger: Path
    settled: int
    notes: Mapping[int, bytes]
    closing: Mapping[str, bytes]


def read_checkpoints(ledger: Path, settled: int) -> Checkpoints:
    """Every stored checkpoint of ``ledger``, unchecked; to be called after the lines were read."""
    closing: dict[str, bytes] = {}  # before the notes: a checkpoint is published, then goes here
    folder = ledger / TLOG / "closing"
    for path in sorted(folder.glob("c_*")) if folder.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            closing[path.name] = path.read_bytes()
    notes = {index: head_path(ledger, index).read_bytes() for index in head_indexes(ledger)}
    return Checkpoints(ledger, settled, notes, closing)


def check_heads(
    checkpoints: Checkpoints,
    chains: Mapping[str, ChainFacts],
    report: Report,
    outside: tuple[str | None, bytes | None],
) -> Places:
    """Check ``checkpoints`` against ``chains`` and against what was kept elsewhere.

    Returns:
        Where the records stand, as the checkpoints whose signatures hold say.
    """
    check = _HeadCheck(checkpoints, chains, report)
    check.keys(outside[0])
    check.heads()
    check.ends()
    check.outside_head(outside[1])
    check.exposure()
    return Places(check.signed)


class _HeadCheck:
    """Walks the checkpoints in order and grows the tree that they commit to."""

    def __init__(
        self, checkpoints: Checkpoints, chains: Mapping[str, ChainFacts], report: Report
    ) -> None:
        self._checkpoints = checkpoints
        self._chains = chains
        self._report = report
        self._epochs: list[Epoch] = []
        self._name = ""
        self._edge: Edge | None = Edge()
        self._sealed: dict[str, int] = {}
        self._owed: dict[str, int] = {}
        self._last: Head | None = None
        self._last_digest = NO_HEAD
        self.signed: list[Head] = []

    def keys(self, wanted: str | None) -> None:
        """Read the public keys and hold the first against the one kept elsewhere."""
        if not self._checkpoints.notes:
            return  # nothing was sealed; `ends` says whether anything should have been
        self._name = self._first_origin()
        try:
            self._epochs = read_epochs(self._checkpoints.ledger, self._name)
        except BadNote as error:
            self._report.fault(KEYS, 0, str(error))
        if not self._epochs:
            self._report.fault(KEYS, 0, "the ledger has no usable public key")
            return
        self._report.key = verifier_key(self._name, self._epochs[0].public)
        if wanted is not None and wanted.strip() != self._report.key:
            self._report.fault(KEYS, 0, "the ledger's first key is not the one you gave")

    def heads(self) -> None:
        """Check each checkpoint against the one before and against the lines."""
        notes = self._checkpoints.notes
        for index in range(max(notes, default=-1) + 1):
            if index not in notes:
                self._fault(index, "the checkpoint is missing")
                continue
            self._report.num_checkpoints += 1
            try:
                head = self._signed(index, notes[index])
            except BadNote as error:
                self._fault(index, str(error))
                continue
            finally:
                before, self._last_digest = self._last_digest, note_digest(notes[index])
            self._follows(head, before)
            self._grow(head)
            self._note_silence(head)
            self._last = head
            self.signed.append(head)

    def ends(self) -> None:
        """Check what must be sealed, and that no checkpoint that a line knew of has gone."""
        newest = max(self._checkpoints.notes, default=-1)
        for name, facts in self._chains.items():
            sealed = self._sealed.get(name, 0)
            where = f"wal/{name}"
            if facts.newest_known_head > newest:
                self._fault(facts.newest_known_head, f"{where} names it, and it is missing")
            if facts.first_intent is not None and sealed == 0:
                self._report.fault(where, 0, "no checkpoint knows this chain")
            if facts.end == "stop" and sealed < len(facts.hashes) and not self._is_closing(facts):
                self._report.fault(where, 0, "the chain was closed; the checkpoint of it is gone")
        for name, sealed in self._owed.items():
            stored = len(self._chains[name].hashes) if name in self._chains else 0
            if stored < sealed:
                self._report.fault(f"wal/{name}", 0, f"{sealed - stored} sealed records are gone")

    def outside_head(self, note: bytes | None) -> None:
        """The ledger must still hold a checkpoint that was kept elsewhere."""
        if note is None:
            return
        try:
            index = read_head(text_of(note)).index
        except BadNote:
            self._report.fault("the checkpoint you gave", 0, "it cannot be read")
            return
        if self._checkpoints.notes.get(index) != note:
            self._fault(index, "it is not the one you gave: the ledger was put back or rewritten")

    def exposure(self) -> None:
        """Say how much of the end stands unsealed."""
        report = self._report
        report.sealed_until = self._last.time if self._last else ""
        newest = ""
        for name, facts in self._chains.items():
            unsealed = facts.times[self._sealed.get(name, 0) :]
            report.num_unsealed += len(unsealed)
            newest = max([newest, *unsealed])
        report.exposed_s = max(0.0, _seconds_between(report.sealed_until, newest))

    def _first_origin(self) -> str:
        for note in self._checkpoints.notes.values():
            try:
                return read_head(text_of(note)).origin
            except BadNote:
                continue
        return ""

    def _signed(self, index: int, note: bytes) -> Head:
        return signed_head(note, index, self._epochs, self._name)

    def _follows(self, head: Head, prev: str) -> None:
        if head.prev != prev:
            self._fault(head.index, "the checkpoint before it is not the one it was made after")

    def _grow(self, head: Head) -> None:
        for run in head.runs:
            facts = self._chains.get(run.chain)
            if run.first != self._sealed.get(run.chain, 0) or run.end <= run.first:
                self._fault(head.index, f"it does not seal {run.chain} from where the last did")
            self._sealed[run.chain] = max(run.end, self._sealed.get(run.chain, 0))
            if head.index <= self._checkpoints.settled:
                self._owed[run.chain] = self._sealed[run.chain]
            leaves = facts.hashes[run.first : run.end] if facts else []
            if len(leaves) != run.end - run.first:
                self._edge = None  # said by `ends`; or they came after the reading
            if self._edge is not None:
                for leaf in leaves:
                    self._edge.append(leaf)
        if self._edge is None:
            return
        if (self._edge.size, self._edge.root()) != (head.size, head.root):
            named = ", ".join(f"{run.chain} {run.first}-{run.end - 1}" for run in head.runs)
            self._fault(head.index, f"the records it seals are not those stored: {named}")
            self._edge = None

    def _note_silence(self, head: Head) -> None:
        if self._last is not None:
            silence = _seconds_between(self._last.time, head.time)
            self._report.longest_silence_s = max(self._report.longest_silence_s, silence)

    def _is_closing(self, facts: ChainFacts) -> bool:
        """Whether a crash between a chain's last line and its checkpoint left the latter behind."""
        note = self._checkpoints.closing.get(facts.name)
        if note is None:
            return False
        try:
            head = self._signed(read_head(text_of(note)).index, note)
        except BadNote:
            return False
        return any(run.chain == facts.name and run.end == len(facts.hashes) for run in head.runs)

    def _fault(self, index: int, problem: str) -> None:
        path = head_path(self._checkpoints.ledger, index)
        self._report.fault(str(path.relative_to(self._checkpoints.ledger)), 0, problem)


def _seconds_between(earlier: str, later: str) -> float:
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
