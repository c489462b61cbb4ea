"""Follows a ledger while it is written: whole lines only, in the order of their times.

It reads and does not verify.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from audit.query import SHOWN, Filter
from audit.replay import WAL
from audit.segments import all_segments, read_segment
from audit.sinks.file import SUFFIX

#: Seconds between two looks at the folder.
EVERY_S: Final = 0.5

Members = dict[str, Any]


class Follower:
    """Remembers how far each segment was read."""

    def __init__(self, ledger: Path) -> None:
        self._wal = ledger / WAL
        self._offsets: dict[Path, int] = {}  # of each segment by the name it was written under

    def news(self) -> list[tuple[bytes, Members]]:
        """The lines that came since the last call, and their members, the oldest first.

        Raises:
            OSError: the ledger cannot be read.
        """
        found = []
        for segment in all_segments(self._wal):
            path = segment.as_form(SUFFIX).path
            if segment.suffix != SUFFIX and path in self._offsets:
                continue  # packed since; it was read to its end before
            try:
                with path.open("rb") as file:
                    file.seek(self._offsets.get(path, 0))
                    data = file.read()
            except FileNotFoundError:
                data = read_segment(segment)[1]
            whole, line_feed, _ = data.rpartition(b"\n")
            self._offsets[path] = self._offsets.get(path, 0) + len(whole) + len(line_feed)
            found += [(line, members) for line in whole.split(b"\n") if (members := _read(line))]
        return sorted(found, key=lambda news: str(news[1].get("time")))


def follow(
    ledger: Path, wanted: Filter, num_before: int, wait: Callable[[], bool]
) -> Iterator[tuple[bytes, Members]]:
    """The last ``num_before`` records that fit, then each that comes, until ``wait`` says no.

    Raises:
        OSError: the ledger cannot be read.
    """
    follower = Follower(ledger)
    before = [news for news in follower.news() if fits(news[1], wanted)]
    yield from before[len(before) - min(num_before, len(before)) :]
    while wait():
        yield from (news for news in follower.news() if fits(news[1], wanted))


def fits(members: Members, wanted: Filter) -> bool:
    """Whether a record is one that ``wanted`` asks for; as `audit.query` understands it."""
    asked = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    values = _values(members)
    return all(
        value in values.get(name, ())
        for name, value in asked.items()
        if value is not None and name not in ("since", "until")
    )


def row_of(members: Members) -> Members:
    """What is shown of a record: as a row of `audit.query`."""
    row: Members = dict.fromkeys(SHOWN)
    row |= {name: members.get(name) for name in SHOWN if not isinstance(members.get(name), list)}
    caller, policy, routing = (_object(members, name) for name in ("caller", "policy", "routing"))
    row |= {"app": caller.get("app"), "team": caller.get("team"), "action": policy.get("action")}
    row |= {"route": routing.get("route"), "reason": routing.get("reason")}
    if "rules" in policy:
        row["rules"] = " ".join(rule["id"] for rule in policy["rules"] if isinstance(rule, dict))
    entities = [entry for entry in members.get("entities", ()) if isinstance(entry, dict)]
    if "entities" in members:
        row["entities"] = " ".join(f"{entry['entity']}:{entry['count']}" for entry in entities)
    if "detail" in members:
        row["detail"] = json.dumps(members["detail"], separators=(",", ":"))
    return row


def _values(members: Members) -> dict[str, tuple[Any, ...]]:
    """The values of each member that can be asked for."""
    caller, policy, routing = (_object(members, name) for name in ("caller", "policy", "routing"))
    entities = [entry for entry in members.get("entities", ()) if isinstance(entry, dict)]
    rules = [rule for rule in policy.get("rules", ()) if isinstance(rule, dict)]
    return {
        **{name: (value,) for name, value in members.items() if isinstance(value, str)},
        "app": (caller.get("app"),),
        "team": (caller.get("team"),),
        "action": (policy.get("action"),),
        "rule": tuple(rule.get("id") for rule in rules),
        "entity": tuple(entry.get("entity") for entry in entities),
        "category": tuple(entry.get("category") for entry in entities),
        "route": (routing.get("route"),),
    }


def _object(members: Members, name: str) -> Members:
    value = members.get(name)
    return value if isinstance(value, dict) else {}


def _read(line: bytes) -> Members | None:
    try:
        members = json.loads(line)
    except ValueError:
        return None
    return members if isinstance(members, dict) else None
