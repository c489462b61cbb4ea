"""Removes records whose time is up: by whole sealed segments, on the record before it is done.

In the place of a removed record its leaf hash stays, so that every checkpoint and proof holds as
before. A request is removed whole or not at all: of what stands in a pruned segment, the records
that others depend on stay. What was captured of a removed egress goes with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from audit.acts import record_acts
from audit.captures import remove_orphans
from audit.chain import read_line
from audit.disk import locked, publish, replace_file, sync_folder
from audit.errors import AuditError
from audit.merkle import leaf_hash
from audit.packing import Finished, clear_drafts, finished_segments
from audit.places import Places
from audit.replay import WAL, stored_heads
from audit.retention import KINDS, PRUNED, Hold, days_on_record, holds_at, stored_events
from audit.segments import PACKED, chain_folders, read_segment, removed_leaf, segments_of
from audit.segments import PRUNED as PRUNED_FORM
from audit.sinks.file import SUFFIX
from audit.vault import ERASURE, VAULT, Captured, captured_of, destroy_capture, erased_of
from audit.verify import verify

_KIND: Final = re.compile(rb'\{"v":1,"kind":"([a-z_.]+)"')
_DECISION: Final = re.compile(rb'"decision_id":"([A-Za-z0-9_]{1,80})"')

#: A segment of which nothing else would go is left as it is: acts of people are such chains, and
#: the record of a removal is longer.
_FRAME_KINDS: Final = ("chain.opened", "chain.closed", *KINDS)


class NotPruned(AuditError):
    """Nothing was removed."""

    code = "not_pruned"


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be."""

    days: int
    before: str
    num_segments: int = 0
    num_records: int = 0
    num_captures: int = 0
    num_held: int = 0
    holds: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Old:
    """A segment whose time is up, with the records of it that are stored."""

    finished: Finished
    records: list[tuple[int, bytes]]
    hashes: dict[int, bytes]

    @property
    def chain(self) -> str:
        return self.finished.segment.folder.name

    def is_held(self, holds: list[Hold]) -> bool:
        """Whether a hold covers it: by the times of its records, and the apps in it."""
        times = [str(read_line(line)["time"])[:19] for _, line in self.records]
        for hold in holds:
            if hold.meets(min(times), max(times)) and (not hold.app or self._is_of(hold.app)):
                return True
        return False

    def _is_of(self, app: str) -> bool:
        callers = (read_line(line).get("caller") for _, line in self.records)
        return any(isinstance(caller, dict) and caller.get("app") == app for caller in callers)


def prune(
    ledger: Path,
    keys_dir: Path,
    days: int | None,
    by: str,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Pruned:
    """Remove the records of ``ledger`` that are older than ``days``, and say so on the record.

    Args:
        ledger: its folder; it is verified first, since a removal would hide what was changed.
        keys_dir: where its keys live.
        days: None: what the policy in force says, which it may not fall below.
        by: who does it.
        dry_run: say what would go, and leave all as it is.
        now: from when the days are counted back; None: the present.

    Raises:
        NotPruned: the ledger was changed, or it is not said how long records are kept.
        AuditError: it is not on the record; nothing was removed.
        OSError: a file cannot be read or written. Run it again: what is on record is gone on with.
    """
    if not (ledger / WAL).is_dir():
        raise NotPruned("there is no ledger")
    with locked(ledger / WAL):
        if not verify(ledger).is_sound:
            raise NotPruned("the ledger was changed; run verify")
        kept_days, _ = days_on_record(ledger)
        days = _agreed(days, kept_days)
        now = now or datetime.now(UTC)
        result = Pruned(days, (now - timedelta(days=days)).isoformat()[:19])
        plan = _Plan(ledger, result)
        if not dry_run:
            clear_drafts(ledger)
            _carry_out(ledger, keys_dir, plan, by)
            _clear_quarantine(ledger, now - timedelta(days=days))
        return result


def _agreed(days: int | None, on_record: int | None) -> int:
    if days is None:
        if on_record is None:
            raise NotPruned("say --days: no policy on record says how long records are kept")
        return on_record
    if on_record is not None and days < on_record:
        raise NotPruned(f"the policy in force keeps records for {on_record} days")
    return days


class _Plan:
    """What goes and what stays."""

    def __init__(self, ledger: Path, result: Pruned) -> None:
        self._result = result
        self._ledger = ledger
        self._places = Places(stored_heads(ledger))
        self._newest_policy = days_on_record(ledger)[1]
        self._closed: set[str] = set()
        holds = holds_at(stored_events(ledger))
        result.holds = [hold.name for hold in holds]
        candidates = list(self._candidates())
        self.old = [old for old in candidates if not old.is_held(holds)]
        result.num_held = len(candidates) - len(self.old)
        self._stay = self._staying()
        self.removals = [one for old in self.old if (one := self._removal(old)) is not None]
        result.num_segments = len(self.removals)
        result.num_records = sum(int(one.detail["removed"]) for one in self.removals)
        result.num_captures = sum(len(one.captures) for one in self.removals)

    def turn_of(self, removal: _Removal) -> tuple[bool, int]:
        """Its turn: a crash in between must leave no outcome without its intent, no intent without
        its decision, and no erased capture without the record of that. So the newest go first, and
        erasures last.
        """
        place = self._places.of(removal.finished.segment.folder.name, removal.finished.first)
        return removal.has_erasure, -place.leaf if place else 0

    def _candidates(self) -> Iterator[_Old]:
        for finished in finished_segments(self._ledger):
            folder = finished.segment.folder
            if finished.segment.stem == segments_of(folder)[-1].stem:
                self._closed.add(folder.name)
            place = self._places.of(folder.name, finished.end - 1)
            if place is not None and place.time[:19] < self._result.before:
                records, hashes = _read(finished)
                if records:
                    yield _Old(finished, records, hashes)

    def _staying(self) -> _Stay:
        """What the records that stay depend on."""
        going = {(old.chain, old.finished.segment.stem) for old in self.old}
        ids = {id_ for old in self.old for _, line in old.records if (id_ := _decision_of(line))}
        stay = _Stay(set(), set())
        for folder in chain_folders(self._ledger / WAL):
            for segment in segments_of(folder):
                if (folder.name, segment.stem) in going:
                    continue
                now, data = read_segment(segment)
                for line in data.split(b"\n")[:-1]:
                    if now.is_pruned and removed_leaf(line) is not None:
                        continue
                    stay.take(line, ids)
        stay.decisions |= self._open_decisions()
        for old in self.old:
            for _, line in old.records:
                if _decision_of(line) in stay.decisions:
                    stay.take(line, ids)
        return stay

    def _open_decisions(self) -> set[bytes]:
        """Requests of chains without an end whose egress has no outcome: whoever adopts the chain
        closes it.
        """
        found = set()
        for chain in {old.chain for old in self.old} - self._closed:
            lines = [line for old in self.old if old.chain == chain for _, line in old.records]
            intents = {str(m["id"]): m for m in _members_of(lines, "egress.intent")}
            for members in _members_of(lines, "egress.outcome"):
                intents.pop(str(members["intent_id"]), None)
            found |= {str(members["decision_id"]).encode() for members in intents.values()}
        return found

    def _removal(self, old: _Old) -> _Removal | None:
        stay = [
            seq
            for seq, line in old.records
            if self._stay.keeps(line) or (old.chain, seq) == self._newest_policy
        ]
        gone = [(seq, line) for seq, line in old.records if seq not in set(stay)]
        if all(_kind_of(line) in _FRAME_KINDS for _, line in gone):
            return None
        content = _content(old, {seq for seq, _ in gone})
        times = sorted(str(read_line(line)["time"])[:19] for _, line in gone)
        captures = [c for _, line in gone if b'"vault"' in line and (c := _capture_of(line))]
        detail = {
            "of": old.chain,
            "first": old.finished.first,
            "end": old.finished.end,
            "removed": len(gone),
            "file": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "from": times[0],
            "to": times[-1],
            "before": self._result.before,
            "days": self._result.days,
        }
        has_erasure = any(_kind_of(line) == ERASURE for _, line in gone)
        return _Removal(old.finished, content, detail, captures, has_erasure)


@dataclass(slots=True)
class _Stay:
    """Requests, and captures of egresses, of which a record stays."""

    decisions: set[bytes]
    captures: set[str]

    def take(self, line: bytes, among: set[bytes]) -> None:
        """A record that stays."""
        if (id_ := _decision_of(line)) and id_ in among:
            self.decisions.add(id_)
        if b'"vault"' in line and (captured := _capture_of(line)) is not None:
            self.captures.add(captured.ref)

    def keeps(self, line: bytes) -> bool:
        """Whether a record of a pruned segment stays."""
        kind = _kind_of(line)
        if kind == ERASURE:
            return erased_of(dict(read_line(line))) in self.captures
        return kind in KINDS or (_decision_of(line) or b"") in self.decisions


@dataclass(frozen=True, slots=True)
class _Removal:
    """A segment's pruned form, and what is recorded of it."""

    finished: Finished
    content: bytes
    detail: dict[str, Any]
    captures: list[Captured]
    has_erasure: bool


def _carry_out(ledger: Path, keys_dir: Path, plan: _Plan, by: str) -> None:
    if plan.removals:
        said = [{**removal.detail, "by": by} for removal in plan.removals]
        record_acts(ledger, keys_dir, PRUNED, said)
    for removal in sorted(plan.removals, key=plan.turn_of):
        _replace(removal)
        for captured in removal.captures:
            destroy_capture(ledger / VAULT, captured.ref)
    if (ledger / VAULT).is_dir():
        remove_orphans(ledger)


def _replace(removal: _Removal) -> None:
    """Put the pruned form in the place of the fuller ones; those count until they are gone."""
    segment = removal.finished.segment
    pruned = segment.as_form(PRUNED_FORM)
    if segment.is_pruned:
        return replace_file(pruned.path, removal.content)
    pruned.path.unlink(missing_ok=True)  # of a run that a crash cut short
    publish(pruned.path, removal.content)
    for suffix in (PACKED, SUFFIX):  # a plain form that is left counts, whatever was done before
        segment.as_form(suffix).path.unlink(missing_ok=True)
    sync_folder(segment.folder)
    return None


def _clear_quarantine(ledger: Path, before: datetime) -> None:
    """Remove torn tails as old as what was removed: they hold pieces of records."""
    for path in (ledger / "quarantine").glob("*.tail"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before.timestamp():
                path.unlink()


def _read(finished: Finished) -> tuple[list[tuple[int, bytes]], dict[int, bytes]]:
    """The records that stand in a segment, and the hashes of those that do not."""
    now, data = read_segment(finished.segment)
    records, hashes = [], {}
    for seq, line in enumerate(data.split(b"\n")[:-1], finished.first):
        leaf = removed_leaf(line) if now.is_pruned else None
        if leaf is None:
            records.append((seq, line))
        else:
            hashes[seq] = leaf
    return records, hashes


def _content(old: _Old, gone: set[int]) -> bytes:
    """The pruned form: a line for each record, its hash where it is gone."""
    lines = {seq: line for seq, line in old.records}
    hashes = {**old.hashes, **{seq: leaf_hash(lines[seq]) for seq in gone}}
    numbers = range(old.finished.first, old.finished.end)
    return b"".join(
        (hashes[seq].hex().encode() if seq in hashes else lines[seq]) + b"\n" for seq in numbers
    )


def _kind_of(line: bytes) -> str:
    match = _KIND.match(line)
    return match[1].decode() if match else ""


def _decision_of(line: bytes) -> bytes | None:
    match = _DECISION.search(line)
    return match[1] if match else None


def _capture_of(line: bytes) -> Captured | None:
    return captured_of(dict(read_line(line)))


def _members_of(lines: list[bytes], kind: str) -> Iterator[dict[str, Any]]:
    return (dict(read_line(line)) for line in lines if _kind_of(line) == kind)
