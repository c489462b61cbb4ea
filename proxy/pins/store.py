"""Derived data stays pinned: keyed digests of what was said in pinned exchanges.

A local answer to a pinned request may tell the secret in words that no detector knows. The store
remembers keyed digests of that answer, of runs of its words, and of the messages it may have passed
into, for a set time; a later request that carries one of them is pinned too. It never holds text,
and it is one SQLite file, so that all server processes of a machine share it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from proxy.database import PrivateDatabase
from proxy.errors import ProxyError
from proxy.inspection.plan import MAX_SEGMENT_CHARS
from proxy.inspection.views.decode import decode
from proxy.inspection.views.view import identity
from proxy.pins.quotes import Growing, kept_run_traces, run_traces, whole_trace
from proxy.types import Finding, Inspection, Origin, Role, Segment

#: Digests asked for in one statement; SQLite takes 32,766 at most.
_BATCH: Final = 500

#: A tag of HTML or XML.
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,200}>")

_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS pins (
      digest BLOB PRIMARY KEY, decision_id TEXT NOT NULL, expires_at REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS pins_expire ON pins (expires_at)",
)


class PinStoreError(ProxyError):
    """The pin store cannot be read or written; the request is treated as sensitive."""

    code = "pins_unavailable"
    http_status = 503


class PinStore:
    """Remembers pinned messages by keyed digest, for ``ttl_s`` seconds.

    They count from when an answer is told, or can no longer be had again from what is kept of it.
    """

    def __init__(
        self, path: Path, key: bytes, ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._ttl_s = ttl_s
        self._clock = clock
        self._db = PrivateDatabase(path, _unavailable, *_SCHEMA)

    async def find(self, carried: Callable[[], Iterable[str]]) -> str | None:
        """The decision id of a pinned exchange that one of the traces stems from, or None.

        Args:
            carried: makes the traces of a request, see `carried_traces`; called in a thread.

        Raises:
            PinStoreError: the store cannot be read.
        """
        return await asyncio.to_thread(lambda: self._find(self._digests(carried())))

    async def remember(
        self, said: Callable[[], Iterable[str]], decision_id: str, kept_s: float = 0.0
    ) -> None:
        """Pin what was said from now on; durable on return.

        Args:
            said: makes the traces of an exchange, see `pinned_traces`; called in a thread.
            decision_id: what pinned it.
            kept_s: for how long its answer can be had again here, in seconds.

        Raises:
            PinStoreError: the store cannot be written.
        """
        ends = self._clock() + kept_s + self._ttl_s
        await asyncio.to_thread(lambda: self._remember(self._digests(said()), decision_id, ends))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _digests(self, traces: Iterable[str]) -> list[bytes]:
        return [
            hmac.digest(self._key, trace.encode("utf-8", "surrogatepass"), hashlib.sha256)
            for trace in dict.fromkeys(traces)
        ]

    def _find(self, digests: Sequence[bytes]) -> str | None:
        now = self._clock()
        for start in range(0, len(digests), _BATCH):  # others have their turn between two
            look_up = partial(_look_up, digests=digests[start : start + _BATCH], now=now)
            found = self._db.read(look_up)
            if found is not None:
                return found
        return None

    def _remember(self, digests: Sequence[bytes], decision_id: str, ends: float) -> None:
        if not digests:
            return
        now = self._clock()

        def write(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM pins WHERE expires_at <= ?", (now,))
            db.executemany(
                "INSERT INTO pins VALUES (?, ?, ?) ON CONFLICT (digest) "
                "DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
                [(digest, decision_id, ends) for digest in digests],
            )

        self._db.write(write)


def pinned_traces(
    inspection: Inspection, answers: Sequence[str], *, derived: bool
) -> Iterator[str]:
    """What to remember of a pinned exchange: what assistants and tools said in it.

    These may tell the secret in words that no detector knows; only what was said from the first
    sensitive message on can. What users and apps wrote is inspected anew wherever it stands, and
    the harmless part of it stands in many other requests, which one pinned exchange must not pin.
    A tool's result is often a page that others read too: it is known as a whole only.

    Args:
        inspection: that of the pinned request.
        answers: the texts of the answer.
        derived: whether it quotes a pinned exchange itself; then nothing of it is harmless.
    """
    later = _since_the_secret(inspection)
    before = _texts_of(later, Role.ASSISTANT)
    yield from _wholes([*before, *answers])
    told = [*before, *_apart(answers)]
    yield from kept_run_traces(told, frozenset() if derived else _own_runs(inspection))
    yield from _wholes(_texts_of(later, Role.TOOL))


def growing_pinned(inspection: Inspection, *, derived: bool) -> Growing:
    """As `pinned_traces`, for an answer that is made from now on; tools' results are left out."""
    before = _texts_of(_since_the_secret(inspection), Role.ASSISTANT)
    return Growing(before, frozenset() if derived else _own_runs(inspection))


def answer_traces(inspection: Inspection, answers: Sequence[str]) -> Iterator[str]:
    """What to remember of ``answers`` that were made from values which leave only masked."""
    yield from _wholes(answers)
    yield from kept_run_traces(_apart(answers), _own_runs(inspection))


def growing_answer(inspection: Inspection) -> Growing:
    """As `answer_traces`, for an answer that is made from now on."""
    return Growing((), _own_runs(inspection))


def carried_traces(inspection: Inspection) -> Iterator[str]:
    """The traces of a new request that may stem from a pinned exchange: of every text in it.

    A text that holds an encoding or tags of markup is looked up without them, too.
    """
    texts = [segment.text for segment in inspection.segments if segment.text is not None]
    for these in (texts, [plain for text in texts if (plain := _plain(text)) != text]):
        yield from _wholes(these)
        yield from run_traces(these)


def _plain(text: str) -> str:
    """``text`` with its encodings undone and no tags; as it is where it is too long to be read."""
    if len(text) > MAX_SEGMENT_CHARS:
        return text
    stages = decode(identity(text))
    return _TAG.sub(" ", stages[-1].text if stages else text)


def _since_the_secret(inspection: Inspection) -> list[Segment]:
    """What was said from the first sensitive message on."""
    sensitive = {finding.segment for finding in inspection.findings}
    sensitive |= {entry.segment for entry in inspection.unscannable}
    first = min(sensitive, default=0)
    return [segment for segment in inspection.segments if segment.index >= first]


def _apart(answers: Sequence[str]) -> list[str]:
    """``answers`` without pieces of the longest: what was heard is told whole and line by line.

    Their runs are those of the whole, and would take the room of others.
    """
    longest = max(answers, key=len, default="")
    return [text for text in answers if text is longest or text.strip() not in longest]


def _wholes(texts: Iterable[str]) -> Iterator[str]:
    return (trace for text in texts if (trace := whole_trace(text)) is not None)


def _texts_of(segments: Iterable[Segment], role: Role) -> list[str]:
    return [
        segment.text
        for segment in segments
        if segment.text is not None
        and segment.origin in (Origin.VALUE, Origin.EMBEDDED)
        and segment.role is role
    ]


def _own_runs(inspection: Inspection) -> frozenset[str]:
    """The runs that users and apps wrote, but for those in which something was found."""
    unread = {entry.segment for entry in inspection.unscannable}
    harmless: set[str] = set()
    telling: set[str] = set()
    for segment in inspection.segments:
        if segment.text is None or segment.index in unread or segment.role is Role.ASSISTANT:
            continue
        found = [finding for finding in inspection.findings if finding.segment == segment.index]
        around = {run for text in _without(segment.text, found) for run in run_traces([text])}
        harmless |= around
        if found:
            telling |= set(run_traces([segment.text])) - around
    return frozenset(harmless - telling)


def _without(text: str, found: Sequence[Finding]) -> Iterator[str]:
    """What stands between the findings of a text."""
    done = 0
    for finding in sorted(found, key=lambda one: one.start):
        yield text[done : finding.start]
        done = max(done, finding.end)
    yield text[done:]


def _look_up(db: sqlite3.Connection, digests: Sequence[bytes], now: float) -> str | None:
    marks = ",".join("?" * len(digests))
    query = f"SELECT decision_id FROM pins WHERE digest IN ({marks}) AND expires_at > ?"  # noqa: S608 - marks only
    row = db.execute(query, (*digests, now)).fetchone()
    return None if row is None else str(row[0])


def _unavailable() -> PinStoreError:
    return PinStoreError("The pin store is not available.")
