"""What the ledger says of its own retention: what was removed and why, and what is on hold.

All of it stands in records of the kinds below, which are never removed themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from audit.chain import read_line
from audit.places import Places
from audit.replay import WAL, stored_heads
from audit.segments import chain_folders, numbered_lines

PRUNED: Final = "retention.pruned"
HOLD: Final = "retention.hold"
RELEASE: Final = "retention.release"

#: The kinds of this page; a record of one is kept for good.
KINDS: Final = (PRUNED, HOLD, RELEASE)

_IS_ONE: Final = b'"kind":"retention.'

Detail = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A record about retention: what it says, and where it stands among all leaves."""

    kind: str
    detail: Detail
    time: str
    leaf: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Records that must stay: of ``app``, from ``since`` to before ``until``; empty is any."""

    name: str
    since: str
    until: str
    app: str

    def meets(self, first: str, last: str) -> bool:
        """Whether it covers some of the time from ``first`` to ``last``, both included."""
        return (not self.until or first < self.until) and (not self.since or last >= self.since)


def stored_events(ledger: Path) -> list[Event]:
    """The sealed records about retention, in the order of the tree.

    Raises:
        BadLine: a line is not what was written.
        OSError: the ledger cannot be read.
    """
    places = Places(stored_heads(ledger))
    found = []
    for folder in chain_folders(ledger / WAL):
        for seq, line in numbered_lines(folder):
            if _IS_ONE in line[:64] and (place := places.of(folder.name, seq)) is not None:
                members = read_line(line)
                if (event := event_of(members, place.leaf)) is not None:
                    found.append(event)
    return sorted(found, key=lambda event: event.leaf)


def event_of(members: Mapping[str, Any], leaf: int) -> Event | None:
    """What a record says about retention; None where it is of another kind."""
    kind, detail = members.get("kind"), members.get("detail")
    if kind not in KINDS or not isinstance(detail, dict):
        return None
    return Event(str(kind), detail, str(members.get("time")), leaf)


def holds_at(events: Iterable[Event], leaf: int | None = None) -> list[Hold]:
    """The holds in force when leaf ``leaf`` was sealed (None: now), from ``events`` in order."""
    holds: dict[str, Hold] = {}
    for event in events:
        if leaf is not None and event.leaf >= leaf:
            break
        name = str(event.detail.get("hold"))
        if event.kind == HOLD:
            said = {key: str(event.detail.get(key, "")) for key in ("from", "to", "app")}
            holds[name] = Hold(name, said["from"], said["to"], said["app"])
        elif event.kind == RELEASE:
            holds.pop(name, None)
    return list(holds.values())


def days_on_record(ledger: Path) -> tuple[int | None, tuple[str, int] | None]:
    """The days that the policy in force wants records kept, and where the record of it stands.

    It is the newest `policy.loaded` that counts. The days are None where it names none.

    Raises:
        BadLine: a line is not what was written.
        OSError: the ledger cannot be read.
    """
    newest: tuple[str, str, int, int | None] | None = None
    for chain, seq, members in _loaded(ledger):
        days = members["detail"].get("retention_days")
        said = days if type(days) is int else None
        if newest is None or str(members["time"]) >= newest[0]:
            newest = (str(members["time"]), chain, seq, said)
    return (newest[3], newest[1:3]) if newest else (None, None)


def _loaded(ledger: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for folder in chain_folders(ledger / WAL):
        for seq, line in numbered_lines(folder):
            if line.startswith(b'{"v":1,"kind":"policy.loaded"'):
                members: dict[str, Any] = read_line(line)
                if isinstance(members.get("detail"), dict):
                    yield folder.name, seq, members
