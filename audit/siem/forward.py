"""Forwards sealed records to a SIEM, at least once each, from a cursor that outlives the process.

It is a process of its own beside the proxy: slow or dead destinations cost no request anything. The
cursor moves only behind what was taken; what fails is tried again, for as long as it takes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from audit.chain import BadLine
from audit.checkpoint import read_head, text_of
from audit.disk import make_folder, replace_file
from audit.errors import AuditError
from audit.note import BadNote
from audit.siem.source import Item, Source, Unreadable, items_of
from audit.siem.wires import Wire, WireDown

#: Most items in one go; with lines of at most 60 KiB this bounds the memory.
BATCH: Final = 200

#: Waits after a failure, in seconds: doubled each time.
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0

#: How often a ledger without news is looked at.
LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the copy is: the next checkpoint, and the items of it that were taken already."""

    next_index: int = 0
    num_taken: int = 0
    num_sent: int = 0
    num_refused: int = 0


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the copy is behind the ledger."""

    num_checkpoints: int
    seconds: float


class Forwarder:
    """Forwards one ledger to one destination.

    Args:
        source: the ledger.
        wire: the destination.
        cursor_file: where the cursor is kept; one for each destination.
        tell: told of each change: a short code, then the lag.
    """

    def __init__(
        self, source: Source, wire: Wire, cursor_file: Path, tell: Callable[[str, Lag], None]
    ) -> None:
        self._source = source
        self._wire = wire
        self._file = cursor_file
        self._tell = tell
        self._stop = threading.Event()
        self.cursor = read_cursor(cursor_file)

    def stop(self) -> None:
        """Have `run` return soon; may be called from a signal handler."""
        self._stop.set()

    def run(self, *, once: bool = False) -> None:
        """Forward until stopped; with ``once``, until nothing sealed is left.

        Raises:
            WireDown, AuditError, OSError: with ``once`` alone; else it is tried again.
        """
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                self._catch_up()
            except (AuditError, OSError) as error:
                if once:
                    raise
                self._tell(_reason(error), self._lag_or_unknown())
                self._stop.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            wait_s = FIRST_WAIT_S
            if once:
                return
            self._stop.wait(LOOK_EVERY_S)

    def lag(self) -> Lag:
        """How far the copy is behind.

        Raises:
            AuditError, OSError: the ledger cannot be read.
        """
        newest = self._source.newest_index()
        if newest < self.cursor.next_index:
            return Lag(0, 0.0)
        oldest = read_head(text_of(self._source.head_note(self.cursor.next_index)))
        age = datetime.now(UTC) - datetime.fromisoformat(oldest.time)
        return Lag(newest + 1 - self.cursor.next_index, max(0.0, age.total_seconds()))

    def _catch_up(self) -> None:
        newest = self._source.newest_index()
        if newest + 1 < self.cursor.next_index:
            raise Unreadable("the ledger is older than its copy; run `ringfence audit verify`")
        has_news = self.cursor.next_index <= newest
        while self.cursor.next_index <= newest and not self._stop.is_set():
            self._forward(self.cursor.next_index)
        if has_news:
            self._tell("forwarded", self.lag())

    def _forward(self, index: int) -> None:
        """Forward one checkpoint, from the item on that the cursor stands at."""
        items = _readable(islice(items_of(self._source, index), self.cursor.num_taken, None))
        while batch := list(islice(items, BATCH)):
            num_refused = self._wire.send(batch)
            self._keep(
                replace(
                    self.cursor,
                    num_taken=self.cursor.num_taken + len(batch),
                    num_sent=self.cursor.num_sent + len(batch),
                    num_refused=self.cursor.num_refused + num_refused,
                )
            )
            if self._stop.is_set():
                return
        self._keep(replace(self.cursor, next_index=index + 1, num_taken=0))

    def _keep(self, cursor: Cursor) -> None:
        make_folder(self._file.parent)
        replace_file(self._file, json.dumps(asdict(cursor)).encode())
        self.cursor = cursor

    def _lag_or_unknown(self) -> Lag:
        try:
            return self.lag()
        except (AuditError, OSError):
            return Lag(-1, -1.0)


def read_cursor(file: Path) -> Cursor:
    """The cursor in ``file``; the beginning where there is none.

    Raises:
        Unreadable: the file holds no cursor: going on from the beginning would be a surprise.
    """
    try:
        return Cursor(**json.loads(file.read_bytes()))
    except FileNotFoundError:
        return Cursor()
    except (ValueError, TypeError):
        raise Unreadable(f"{file.name} is no cursor") from None


def _readable(items: Iterator[Item]) -> Iterator[Item]:
    try:
        yield from items
    except (BadLine, BadNote) as error:
        raise Unreadable(str(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, WireDown):
        return f"waits: the destination: {error}"
    return f"waits: {error.strerror if isinstance(error, OSError) else error}"
