"""Legal holds: records of an app or a time that retention must leave alone, on the record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from audit.acts import UnknownRecord, record_acts
from audit.disk import locked
from audit.errors import AuditError
from audit.replay import WAL
from audit.retention import HOLD, RELEASE, Detail, Hold, holds_at, stored_events

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


class NotHeld(AuditError):
    """A hold is not set or not released."""

    code = "not_held"


def set_hold(ledger: Path, keys_dir: Path, hold: Hold, why: Detail) -> None:
    """Record that records are on hold: from then on no `prune` removes them.

    Raises:
        NotHeld: the name is taken, or it or a time has another form than it should.
        AuditError: it is not on the record.
        OSError: the ledger cannot be read.
    """
    times = [time for time in (hold.since, hold.until) if time]
    if not _NAME.fullmatch(hold.name) or not all(_SECOND.fullmatch(time) for time in times):
        raise NotHeld("a hold has a name as case-17, and times to the second")
    with locked(ledger / WAL):
        if hold.name in {one.name for one in holds_at(stored_events(ledger))}:
            raise NotHeld(f"{hold.name} is in force already")
        what = {"from": hold.since, "to": hold.until, "app": hold.app}
        said = {key: value for key, value in what.items() if value}
        record_acts(ledger, keys_dir, HOLD, [{"hold": hold.name, **said, **why}])


def release_hold(ledger: Path, keys_dir: Path, name: str, why: Detail) -> None:
    """Record that a hold is over.

    Raises:
        UnknownRecord: no hold of that name is in force.
        AuditError: it is not on the record.
        OSError: the ledger cannot be read.
    """
    with locked(ledger / WAL):
        if name not in {one.name for one in holds_at(stored_events(ledger))}:
            raise UnknownRecord("no hold of that name is in force")
        record_acts(ledger, keys_dir, RELEASE, [{"hold": name, **why}])
