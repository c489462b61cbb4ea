"""Seals durable lines into the Merkle tree and signs its head; one process at a time.

Every process seals the lines of its own chain, from the hashes of what it wrote (never from what
the disk now says), under a lock that all share. It must never sign a tree that does not grow from
the last signed one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from audit.checkpoint import NO_HEAD, Head, Run, note_digest, read_head, text_of
from audit.disk import disk_faults
from audit.epochs import signer_for
from audit.errors import LedgerUnwritable
from audit.merkle import Edge
from audit.note import BadNote, sign
from audit.replay import edge_at, hint_of
from audit.sinks.sink import AuditSink
from audit.stores.store import LedgerStore, SealedNote

_FAULT: Final = "no checkpoint can be written"


@dataclass(frozen=True, slots=True)
class Leaves:
    """Leaf hashes of records ``first`` … of a chain, in order."""

    chain: str
    first: int
    hashes: tuple[bytes, ...]

    @property
    def run(self) -> Run:
        """The records they stand for."""
        return Run(self.chain, self.first, self.first + len(self.hashes))

    def past(self, end: int) -> Leaves:
        """Those of them from record ``end`` on."""
        num_sealed = max(0, min(end - self.first, len(self.hashes)))
        return Leaves(self.chain, self.first + num_sealed, self.hashes[num_sealed:])


@dataclass(frozen=True, slots=True)
class _Top:
    """The newest checkpoint and the tree behind it."""

    head: Head | None
    note_digest: str
    edge: Edge


class Sealer:
    """Makes the checkpoints of one ledger."""

    def __init__(
        self,
        store: LedgerStore,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._name = name
        self._clock = clock
        self._top = _Top(None, NO_HEAD, Edge())
        self._ends: dict[str, int] = {}

    def seal(self, leaves: Sequence[Leaves]) -> Head:
        """Sign a checkpoint that adds ``leaves``; without any it is a heartbeat.

        Raises:
            AuditError: there is no durable checkpoint; nothing was sealed.
        """
        with disk_faults(_FAULT), self._store.locked():
            return self.seal_locked(leaves)

    def seal_locked(self, leaves: Sequence[Leaves]) -> Head:
        """`seal` for a caller that holds the ledger's lock."""
        with disk_faults(_FAULT):
            return self._publish(*self._next(leaves))

    def refresh_locked(self) -> None:
        """Read the newest checkpoint, for a caller that holds the ledger's lock."""
        with disk_faults(_FAULT):
            self._top = self._load()

    @property
    def newest_index(self) -> int:
        """Index of the newest checkpoint that this process knows of; -1 before the first."""
        return self._top.head.index if self._top.head else -1

    def is_due(self, heartbeat_s: float) -> bool:
        """Whether no process has made a checkpoint for ``heartbeat_s``."""
        with disk_faults(_FAULT), self._store.locked():
            self._top = self._load()
        if self._top.head is None:
            return True
        age = self._clock() - datetime.fromisoformat(self._top.head.time)
        return abs(age.total_seconds()) >= heartbeat_s

    def seal_end(self, leaves: Leaves, sink: AuditSink, line: bytes) -> Head:
        """Seal ``leaves`` with the last ``line`` of their chain, which is appended to ``sink``."""
        with disk_faults(_FAULT), self._store.locked():
            note, head, edge = self._next([leaves])
            sealed = SealedNote(head.index, note, hint_of(edge))
            self._store.publish_end(leaves.chain, sink, line, sealed)
            self._top = _Top(head, note_digest(note), edge)
            return head

    def _next(self, leaves: Sequence[Leaves]) -> tuple[bytes, Head, Edge]:
        top = self._top = self._load()
        index = top.head.index + 1 if top.head else 0
        now = self._clock()
        signer = signer_for(self._store, self._name, (f"{now:%Y-%m-%d}", index))
        edge = top.edge.copy()
        leaves = [part.past(self._ends.get(part.chain, 0)) for part in leaves]
        for part in leaves:
            for leaf in part.hashes:
                edge.append(leaf)
        head = Head(
            origin=self._name,
            size=edge.size,
            root=edge.root(),
            index=index,
            time=now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            epoch=signer.epoch.number,
            prev=top.note_digest,
            runs=tuple(part.run for part in leaves if part.hashes),
        )
        return sign(head.text(), self._name, signer.key), head, edge

    def _publish(self, note: bytes, head: Head, edge: Edge) -> Head:
        self._store.publish_head(SealedNote(head.index, note, hint_of(edge)))
        self._top = _Top(head, note_digest(note), edge)
        return head

    def _load(self) -> _Top:
        """The newest checkpoint on the disk, with the tree it commits to."""
        newest, known = self._store.newest_index(), self.newest_index
        if newest < known:
            raise LedgerUnwritable("a checkpoint has gone; run `ringfence audit verify`")
        if newest == known:
            return self._top
        if known >= 0:
            self._note_ends(known + 1, newest)
        note = self._store.head_note(newest)
        try:
            head = read_head(text_of(note))
        except BadNote:
            raise LedgerUnwritable("the newest checkpoint cannot be read") from None
        edge = edge_at(self._store, head)
        if edge is None or head.index != newest:
            raise LedgerUnwritable("the sealed log does not add up; run `ringfence audit verify`")
        return _Top(head, note_digest(note), edge)

    def _note_ends(self, first: int, last: int) -> None:
        """Remember what checkpoints made behind our back seal: one of ours that was published and
        whose sync then failed counts as not made, and still stands.
        """
        for index in range(first, last + 1):
            with contextlib.suppress(BadNote):
                head = read_head(text_of(self._store.head_note(index)))
                self._ends.update({run.chain: run.end for run in head.runs})
