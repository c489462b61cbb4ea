"""Finds records: by time, caller, entity, rule, route, destination. It reads; it does not verify.

DuckDB scans the ledger's files where they lie. It is told to load nothing from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from errno import ENOENT
from pathlib import Path
from typing import Any, Final

import duckdb

from audit.replay import WAL
from audit.sinks.file import SUFFIX

#: Nothing is fetched, and nothing is written to a temporary file.
_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "temp_directory": "",
}

#: The members that are looked at, as DuckDB types; others are not read.
_COLUMNS: Final = {
    "time": "VARCHAR",
    "kind": "VARCHAR",
    "id": "VARCHAR",
    "decision_id": "VARCHAR",
    "caller": "STRUCT(app VARCHAR, team VARCHAR, environment VARCHAR)",
    "policy": "STRUCT(action VARCHAR, rules STRUCT(id VARCHAR)[])",
    "entities": "STRUCT(entity VARCHAR, category VARCHAR, count BIGINT, max_score DOUBLE)[]",
    "routing": "STRUCT(route VARCHAR, reason VARCHAR, score DOUBLE)",
    "destination": "VARCHAR",
    "region": "VARCHAR",
    "status": "BIGINT",
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
}
SHOWN: Final = tuple(_SELECTED)

_CONDITIONS: Final = {
    "since": "time >= ?",
    "until": "time < ?",
    "kind": "kind = ?",
    "app": "caller.app = ?",
    "team": "caller.team = ?",
    "action": "policy.action = ?",
    "rule": "list_contains(list_transform(policy.rules, lambda r: r.id), ?)",
    "entity": "list_contains(list_transform(entities, lambda e: e.entity), ?)",
    "category": "list_contains(list_transform(entities, lambda e: e.category), ?)",
    "route": "routing.route = ?",
    "destination": "destination = ?",
}


#: The members that a record can be asked for by value.
MEMBERS: Final = tuple(name for name in _CONDITIONS if name not in ("since", "until"))


@dataclass(frozen=True, slots=True)
class Filter:
    """What to find; None is any. ``since`` is included, ``until`` is not."""

    since: datetime | None = None
    until: datetime | None = None
    kind: str | None = None
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
    files = sorted(str(path) for path in (ledger / WAL).glob(f"*/*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(ENOENT, "there are no records")
    conditions, values = wanted.conditions()
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _COLUMNS.items())
    selected = ", ".join(f"{sql} AS {name}" for name, sql in _SELECTED.items())
    statement = (
        f"SELECT {selected} FROM read_json(?, format='newline_delimited', "  # noqa: S608  (no value)
        f"columns={{{columns}}}, ignore_errors=true, maximum_object_size=131072)"
        f" WHERE {' AND '.join(['id IS NOT NULL', *conditions])} ORDER BY time DESC, id"
        + (f" LIMIT {int(limit)}" if limit is not None else "")
    )
    with duckdb.connect(":memory:", config=_SETTINGS) as connection:
        rows = connection.execute(statement, [files, *values]).fetchall()
    return [dict(zip(SHOWN, row, strict=True)) for row in rows]
