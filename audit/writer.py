"""The writer of one chain: a thread that makes records durable in groups.

All records that wait at a moment share one write and one sync, so that concurrency does not cost a
sync each. A record that could not be made durable is refused, never queued for later.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from audit.chain import GENESIS, Frame, digest, make_line, read_line
from audit.errors import AuditError, ChainLost, LedgerUnwritable
from audit.merkle import leaf_hash
from audit.sealer import Leaves
from audit.sinks.sink import AuditSink

#: Most records in one group; bounds the time a record waits for the ones before it.
MAX_GROUP: Final = 256

#: Most records that may wait; beyond it the ledger is refused, not memory filled.
MAX_WAITING: Final = 10_000

#: Most durable records that may wait for a checkpoint. Beyond it the ledger is refused: records
#: that nothing seals are records that somebody can take back.
MAX_UNSEALED: Final = 200_000


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands: the next sequence number and the digest of its last line.

    ``sealed`` is the index of the newest checkpoint known to its writer.
    """

    chain: str
    next_seq: int = 0
    prev: str = GENESIS
    sealed: int = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on its way: kind, id and members, and the promise that it is durable.

    ``waiter`` belongs to the caller's event loop and is done soon after ``done`` is.
    """

    kind: str
    id: str
    members: dict[str, object]
    done: Future[None] = field(default_factory=Future)
    waiter: asyncio.Future[None] | None = None


class ChainWriter:
    """Appends entries to one chain through a sink, from a thread of its own."""

    def __init__(self, sink: AuditSink, head: ChainHead) -> None:
        self._sink = sink
        self._head = head
        self._queue: queue.Queue[Entry | None] = queue.Queue(MAX_WAITING)
        self._failed = False
        self._lost = False
        self._refused_intents: list[Entry] = []
        self._ended: set[str] = set()  # intents whose outcome stands though its caller was refused
        self._closed = False
        self._lock = threading.Lock()  # over what the sealer and callers share with the thread
        self._unsealed: list[bytes] = []
        self._first_unsealed = head.next_seq
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    @property
    def is_healthy(self) -> bool:
        """Whether the last group could be made durable and there is room for more."""
        return not (self._failed or self._closed or self._queue.full() or self._is_unsealed_full())

    @property
    def is_lost(self) -> bool:
        """Whether another writer went on with the chain: it wants a new one."""
        return self._lost

    @property
    def chain(self) -> str:
        """The chain's name."""
        return self._head.chain

    def probe(self) -> None:
        """After a fault: find out whether the sink takes records again, though nobody asks."""
        if self._failed and self._queue.empty():
            with contextlib.suppress(LedgerUnwritable):
                self.submit(Entry("ledger.back", f"rec_back_{self._head.next_seq}", {"detail": {}}))

    @property
    def num_unsealed(self) -> int:
        """Durable records that no checkpoint covers yet."""
        return len(self._unsealed)

    def submit(self, entry: Entry) -> Future[None]:
        """Queue ``entry``; the future is done when it is durable, or holds a `LedgerUnwritable`."""
        if self._is_unsealed_full():
            raise LedgerUnwritable("too many records wait for a checkpoint")
        try:
            with self._lock:  # nothing is queued behind the mark that ends the thread
                if self._closed:
                    raise LedgerUnwritable("the ledger is closed")
                self._queue.put_nowait(entry)
        except queue.Full:
            raise LedgerUnwritable("too many records wait for the disk") from None
        return entry.done

    def unsealed(self) -> Leaves:
        """The durable records that no checkpoint covers yet."""
        with self._lock:
            return Leaves(self._head.chain, self._first_unsealed, tuple(self._unsealed))

    def note_sealed(self, leaves: Leaves, index: int) -> None:
        """Forget ``leaves``: checkpoint ``index`` covers them."""
        with self._lock:
            del self._unsealed[: len(leaves.hashes)]
            self._first_unsealed += len(leaves.hashes)
            self._head = replace(self._head, sealed=index)

    def stop(self) -> None:
        """Write what waits, then end the thread; the chain stays locked until `close`."""
        with self._lock:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self._queue.put(None)
            self._thread.join()

    def last_line(self, entry: Entry) -> tuple[Leaves, AuditSink, bytes]:
        """After `stop`: what is to be sealed with ``entry`` as last line, where to, and the line.

        Raises:
            LedgerUnwritable: the last group failed; the chain is left to the next start.
        """
        if self._failed:
            raise LedgerUnwritable("the chain cannot be closed after a failed write")
        line = frame_line(entry, self._head)
        before = self.unsealed()
        leaves = Leaves(before.chain, before.first, (*before.hashes, leaf_hash(line)))
        return leaves, self._sink, line

    def close(self) -> None:
        """Write what waits, then let go of the chain."""
        self.stop()
        self._sink.close()

    def _is_unsealed_full(self) -> bool:
        return len(self._unsealed) >= MAX_UNSEALED

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            last = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                entry = self._queue.get()
                if entry is None:
                    last = True
                    break
                group.append(entry)
            self._write(group)
            _wake(group)
            if last:
                break

    def _write(self, group: Sequence[Entry]) -> None:
        taken: Sequence[Entry] = group
        try:
            if self._failed:
                self._take_over(self._sink.landed())
            lines, head, taken = self._lines(group)
            if lines:
                self._sink.append(lines)
        except LedgerUnwritable as error:
            self._failed = True
            self._lost = self._lost or isinstance(error, ChainLost)
            for entry in taken:
                if entry.done.running() or entry.done.set_running_or_notify_cancel():
                    entry.done.set_exception(LedgerUnwritable(str(error)))
            return
        if lines:
            self._ended |= {str(one.members["intent_id"]) for one in self._refused_intents}
            self._refused_intents = []
        hashes = [leaf_hash(line) for line in lines]
        with self._lock:
            self._head = replace(head, sealed=max(head.sealed, self._head.sealed))
            self._unsealed += hashes
        self._failed = False if lines else self._failed
        for entry in taken:
            entry.done.set_result(None)

    def _take_over(self, landed: Sequence[bytes]) -> None:
        """Go on behind lines that stand although they were refused; nothing left on their account,
        and their intents are closed so. What closes an intent stands, and is not written again.
        """
        for line in landed:
            members = read_line(line)
            if members["kind"] == "egress.outcome":
                self._ended.add(str(members["intent_id"]))
            if members["kind"] == "egress.intent":
                names = ("decision_id", "attempt")
                ids = {"intent_id": members["id"], **{name: members[name] for name in names}}
                ending = {**ids, "sent": "no", "error_type": "refused"}
                self._refused_intents.append(
                    Entry("egress.outcome", f"out_{members['id']}", ending)
                )
        self._refused_intents = [one for one in self._refused_intents if not self._has_ended(one)]
        with self._lock:
            for line in landed:
                self._head = advance(self._head, line)
            self._unsealed += [leaf_hash(line) for line in landed]

    def _has_ended(self, entry: Entry) -> bool:
        """Whether it is an outcome for an intent that has one."""
        return entry.kind == "egress.outcome" and entry.members.get("intent_id") in self._ended

    def _lines(self, group: Sequence[Entry]) -> tuple[list[bytes], ChainHead, list[Entry]]:
        """The lines of a group; a record that cannot be framed is refused by itself."""
        head, lines, taken = self._head, [], []
        if self._failed:
            recovery = Entry("recovery", recovery_id(head), {"reason": "write_failed"})
            for own in (recovery, *self._refused_intents):
                lines.append(frame_line(own, head))
                head = advance(head, lines[-1])
        for entry in group:
            if not entry.done.set_running_or_notify_cancel():
                continue  # whoever asked for it is gone
            if self._has_ended(entry):
                taken.append(entry)
                continue
            try:
                line = frame_line(entry, head)
            except AuditError as error:
                entry.done.set_exception(AuditError(str(error)))
                continue
            lines.append(line)
            taken.append(entry)
            head = advance(head, line)
        return (lines, head, taken) if taken else ([], self._head, [])


def _wake(group: Sequence[Entry]) -> None:
    """Tell each event loop once that its entries are settled: a call for each would cost dearly."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for entry in group:
        if entry.waiter is not None:
            loops.setdefault(entry.waiter.get_loop(), []).append(entry.waiter)
    for loop, waiters in loops.items():
        with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
            loop.call_soon_threadsafe(_settle, waiters)


def _settle(waiters: Sequence[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def append_now(
    sink: AuditSink, head: ChainHead, entries: Sequence[Entry]
) -> tuple[ChainHead, tuple[bytes, ...]]:
    """Append ``entries`` at once, without a thread; for start-up and recovery.

    Returns:
        The head after them, and their leaf hashes.

    Raises:
        AuditError: not durable.
    """
    lines = []
    for entry in entries:
        lines.append(frame_line(entry, head))
        head = advance(head, lines[-1])
    sink.append(lines)
    return head, tuple(leaf_hash(line) for line in lines)


def recovery_id(head: ChainHead) -> str:
    """The id of the `recovery` that comes next at ``head``: no other chain has it."""
    return f"rec_{head.chain.removeprefix('c_')}_{head.next_seq}"


def advance(head: ChainHead, line: bytes) -> ChainHead:
    """Where the chain stands after ``line``."""
    return replace(head, next_seq=head.next_seq + 1, prev=digest(line))


def frame_line(entry: Entry, head: ChainHead) -> bytes:
    """The line of ``entry`` at ``head``."""
    frame = Frame(
        kind=entry.kind,
        id=entry.id,
        seq=head.next_seq,
        chain=head.chain,
        time=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        mono_us=time.monotonic_ns() // 1000,
        sealed=head.sealed,
        prev=head.prev,
    )
    return make_line(frame, entry.members)
