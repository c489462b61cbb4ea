"""Finds records: by time, caller, entity, rule, route, destination. It reads; it does not verify.

DuckDB scans the ledger's files where they lie. It is told to load nothing from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from errno import EIO, ENOENT
from pathlib import Path
from typing import Any, Final

import duckdb

from audit.replay import WAL
from audit.segments import all_segments

#: Nothing is fetched, and nothing is written to a temporary file.
_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "temp_directory": "",
}

#: A segment that is packed while the files are listed is looked for anew.
_TRIES: Final = 3

#: The members that are looked at, as DuckDB types; others are not read.
_COLUMNS: Final = {
    "time": "VARCHAR",
    "kind": "VARCHAR",
    "id": "VARCHAR",
    "decision_id": "VARCHAR",
    "caller": "STRUCT(app VARCHAR, team VARCHAR, environment VARCHAR)",
    "policy": "STRUCT(action VARCHAR, rules STRUCT(id VARCHAR)[])",
    "coverage": "STRUCT(strings BIGINT, inspected BIGINT, structural BIGINT, "
    "unscannable MAP(VARCHAR, BIGINT))",
    "entities": "STRUCT(entity VARCHAR, category VARCHAR, count BIGINT, max_score DOUBLE)[]",
    "routing": "STRUCT(route VARCHAR, reason VARCHAR, score DOUBLE)",
    "destination": "VARCHAR",
    "region": "VARCHAR",
    "status": "BIGINT",
    "sent": "VARCHAR",
    "cost_usd": "DOUBLE",
    "detail": "JSON",
}

#: What is shown of each record, in order: its name, and where it stands, as SQL.
_SELECTED: Final = {
    "time": "time",
    "kind": "kind",
    "id": "id",
    "decision_id": "decision_id",
    "app": "caller.app",
    "team": "caller.team",
    "action": "policy.action",
    "rules": "array_to_string(list_transform(policy.rules, lambda r: r.id), ' ')",
    "entities": "array_to_string("
    "list_transform(entities, lambda e: e.entity || ':' || e.count), ' ')",
    "route": "routing.route",
    "reason": "routing.reason",
    "destination": "destination",
    "region": "region",
    "status": "status",
    "sent": "sent",
    "cost_usd": "cost_usd",
    "detail": "detail",
}
SHOWN: Final = tuple(_SELECTED)

UNINSPECTED_SHOWN: Final = (
    *("time", "id", "decision_id", "destination", "region"),
    *("strings", "inspected", "why"),
)

_CONDITIONS: Final = {
    "since": "time >= ?",
    "until": "time < ?",
    "id": "id = ?",
    "kind": "kind = ?",
    "sent": "sent = ?",
    "app": "caller.app = ?",
    "team": "caller.team = ?",
    "action": "policy.action = ?",
    "rule": "list_contains(list_transform(policy.rules, lambda r: r.id), ?)",
    "entity": "list_contains(list_transform(entities, lambda e: e.entity), ?)",
    "category": "list_contains(list_transform(entities, lambda e: e.category), ?)",
    "route": "routing.route = ?",
    "destination": "destination = ?",
}

#: Intents whose decision is missing, does not add up, or left something unread.
_UNINSPECTED: Final = """
SELECT intents.time, intents.id, intents.decision_id, intents.destination, intents.region,
       decisions.coverage.strings AS strings, decisions.coverage.inspected AS inspected,
       CASE WHEN decisions.id IS NULL THEN 'no decision on record'
            WHEN cardinality(decisions.coverage.unscannable) > 0
            THEN array_to_string(map_keys(decisions.coverage.unscannable), ' ')
            ELSE 'the coverage does not add up' END AS why
FROM records AS intents LEFT JOIN records AS decisions
  ON decisions.kind = 'decision' AND decisions.decision_id = intents.decision_id
WHERE intents.kind = 'egress.intent'{chosen}
  AND (decisions.id IS NULL OR coalesce(cardinality(decisions.coverage.unscannable), 1) > 0
       OR coalesce(decisions.coverage.strings, -1) <>
          decisions.coverage.inspected + decisions.coverage.structural)
ORDER BY intents.time DESC, intents.id
"""

#: The members that a record can be asked for by value.
MEMBERS: Final = tuple(name for name in _CONDITIONS if name not in ("since", "until"))


@dataclass(frozen=True, slots=True)
class Filter:
    """What to find; None is any. ``since`` is included, ``until`` is not."""

    since: datetime | None = None
    until: datetime | None = None
    id: str | None = None
    kind: str | None = None
    sent: str | None = None
    app: str | None = None
    team: str | None = None
    action: str | None = None
    rule: str | None = None
    entity: str | None = None
    category: str | None = None
    route: str | None = None
    destination: str | None = None

    def conditions(self) -> tuple[list[str], list[str]]:
        """The conditions as SQL, and their values."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self)]
        set_ones = [(name, value) for name, value in given if value is not None]
        texts = [_stored(v) if isinstance(v, datetime) else str(v) for _, v in set_ones]
        return [_CONDITIONS[name] for name, _ in set_ones], texts


def _stored(moment: datetime) -> str:
    """A moment (UTC where it names no zone) as records write theirs, which sort as text."""
    known = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return known.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def query(ledger: Path, wanted: Filter, limit: int | None = None) -> list[dict[str, Any]]:
    """The records that fit, newest first, as flat rows; a member that a kind has not is None.

    Lines that are no JSON (a write under way, a torn tail) are passed over: `verify` names them.

    Raises:
        FileNotFoundError: there is no ledger there.
    """
    conditions, values = wanted.conditions()
    selected = ", ".join(f"{sql} AS {name}" for name, sql in _SELECTED.items())
    return _rows(
        ledger,
        f"SELECT {selected} FROM records WHERE "  # noqa: S608  (no value)
        f"{' AND '.join(['id IS NOT NULL', *conditions])} ORDER BY time DESC, id"
        + (f" LIMIT {int(limit)}" if limit is not None else ""),
        values,
    )


def uninspected_egress(ledger: Path, wanted: Filter) -> list[dict[str, Any]]:
    """Every egress whose request was not inspected to its last string, newest first.

    An egress is uninspected if its decision is not on record, if the decision's coverage does not
    add up, or if anything in the request could not be read. Only the times of ``wanted`` count.

    Raises:
        FileNotFoundError: there is no ledger there.
    """
    conditions, values = Filter(wanted.since, wanted.until).conditions()
    chosen = "".join(f" AND intents.{condition}" for condition in conditions)
    return _rows(ledger, _UNINSPECTED.format(chosen=chosen), values)


def _rows(ledger: Path, select: str, values: list[str]) -> list[dict[str, Any]]:
    """The rows of ``select`` over ``records``, the ledger's lines.

    Raises:
        FileNotFoundError: there is no ledger there.
        OSError: a segment cannot be read.
    """
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _COLUMNS.items())
    lines = (
        "WITH records AS (SELECT * FROM read_json(?, format='newline_delimited', "  # noqa: S608
        f"columns={{{columns}}}, ignore_errors=true, maximum_object_size=131072)) "
    )
    with duckdb.connect(":memory:", config=_SETTINGS) as connection:
        for _ in range(_TRIES):
            files = [str(segment.path) for segment in all_segments(ledger / WAL)]
            if not files:
                raise FileNotFoundError(ENOENT, "there are no records")
            try:
                answer = connection.execute(lines + select, [files, *values])
            except duckdb.IOException:
                continue
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    raise OSError(EIO, "a segment cannot be read; run verify")
