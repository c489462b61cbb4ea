"""What signs and what people do, over a ledger in a real PostgreSQL: by its URL, as in files."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.errors import LedgerUnwritable
from audit.ledger import keyed_digest
from audit.stores.postgres import PostgresStore
from tests.audit.stores.conftest import database as database
from tests.audit.stores.database import Database, sql
from tests.audit.stores.test_postgres import a_closed_ledger, checked, members_of

SPAN = ("--from", "2020-01-01", "--to", "2100-01-01")


@dataclass(frozen=True)
class Room:
    """A ledger in a database, and the folder of the secret of its keys."""

    database: Database
    folder: Path

    @property
    def keys(self) -> list[str]:
        return ["--keys", str(self.folder / "keys")]

    def run(self, *arguments: str) -> Result:
        """Run a command; the environment names the ledger, as on a replica."""
        env = {"RINGFENCE_LEDGER_URL": self.database.writer}
        return CliRunner().invoke(app, arguments, env=env)


@pytest.fixture
def room(database: Database, tmp_path: Path) -> Room:
    asyncio.run(a_closed_ledger(database.writer, tmp_path))
    return Room(database, tmp_path)


def test_attests_exports_and_reports_over_a_database(room: Room) -> None:
    key = checked(room.database.reader, room.folder / "copy").key
    statement, bundle = room.folder / "statement.note", room.folder / "bundle.zip"
    refused = room.run("attest", "--no-egress-of", "health", *SPAN, *room.keys)
    assert (refused.exit_code, refused.stdout) == (1, "")  # these intents have no decisions
    region = ("--destination-region", "us")
    done = room.run(
        *("attest", "--no-egress-of", "health", *SPAN, *region, *room.keys),
        *("-o", str(statement)),
    )
    assert done.exit_code == 0, done.output
    again = room.run("check", str(statement), "--key", key, "--ledger", room.database.reader)
    assert (again.exit_code, "the ledger says the same" in again.stderr) == (0, True)
    done = room.run("export", *SPAN, "-o", str(bundle), "--by", "Jane Doe", *room.keys)
    assert done.exit_code == 0, done.output
    checked_bundle = CliRunner().invoke(app, ["verify", str(bundle), "--key", key])
    assert "82 records" in checked_bundle.stdout
    month = f"{datetime.now(UTC):%Y-%m}"
    assert "Example Ltd" in room.run("report", "--month", month).stdout
    (export,) = [m for m in members_of(room.database.reader) if m["kind"] == "export"]
    assert export["detail"]["by"] == "Jane Doe"
    report = checked(room.database.reader, room.folder / "after")
    assert (report.faults, report.open_chains, report.num_unsealed) == ([], 0, 0)


def test_a_review_goes_on_the_record_of_the_database(room: Room) -> None:
    waiting = room.run("review").stdout
    assert "40 wait for a review" in waiting
    id_ = next(m["id"] for m in members_of(room.database.reader) if m["kind"] == "egress.intent")
    assert room.run("review", id_, "--by", "Jane Doe", *room.keys).exit_code == 0
    assert room.run("review", "int_none", "--by", "Jane Doe", *room.keys).exit_code == 1
    assert "39 wait for a review" in room.run("review").stdout
    assert checked(room.database.reader, room.folder / "copy").faults == []


def test_a_digest_key_in_the_database_dies_for_good_for_every_replica(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hk-2026-01"
    store = PostgresStore(room.database.writer, room.folder / "keys")
    with monkeypatch.context() as patch:
        patch.setattr("audit.ledger.present_key_name", lambda: name)
        keyed_digest(store.keys, b"x")
    done = room.run("destroy-key", name, "--by", "Jane Doe", "--yes", *room.keys)
    assert done.exit_code == 0, done.output
    names = {row["name"] for row in sql(room.database.owner, "SELECT name FROM ringfence.secret")}
    assert f"{name}.key" not in names
    assert f"{name}.destroyed" in names
    fresh = PostgresStore(room.database.writer, room.folder / "keys")
    with monkeypatch.context() as patch:  # a clock set back
        patch.setattr("audit.ledger.present_key_name", lambda: name)
        with pytest.raises(LedgerUnwritable, match="destroyed"):
            keyed_digest(fresh.keys, b"x")
    for one in (store, fresh):
        one.close()
    again = room.run("destroy-key", name, "--by", "Jane Doe", "--yes", *room.keys)
    assert again.exit_code == 0
    this_month = f"hk-{datetime.now(UTC):%Y-%m}"
    for other in (this_month, "hk-2025-01", "hk-\u0662\u0660\u0662\u0665-01"):
        refused = room.run("destroy-key", other, "--by", "Jane Doe", "--yes", *room.keys)
        assert refused.exit_code == 1
    (first, _) = [m for m in members_of(room.database.reader) if m["kind"] == "hmac_key.destroyed"]
    assert first["detail"] == {"key": name, "by": "Jane Doe"}


def test_without_the_secret_or_the_right_nothing_is_signed_or_recorded(room: Room) -> None:
    before = len(members_of(room.database.reader))
    region = ("--destination-region", "us")
    attest = ("attest", "--no-egress-of", "health", *SPAN, *region)
    elsewhere = room.run(*attest, "--keys", str(room.folder / "other"))
    assert (elsewhere.exit_code, elsewhere.stdout) == (1, "")
    assert "copy ledger.kek from another replica" in elsewhere.stderr.replace("\n", " ")
    reader = {"RINGFENCE_LEDGER_URL": room.database.reader}
    for arguments in (
        [*attest, *room.keys],
        ["export", *SPAN, "-o", str(room.folder / "b.zip"), "--by", "x", *room.keys],
    ):
        refused = CliRunner().invoke(app, arguments, env=reader)
        assert (refused.exit_code, refused.stdout) == (1, "")
    assert not (room.folder / "b.zip").exists()
    assert len(members_of(room.database.reader)) == before


def test_what_only_files_have_says_so(room: Room) -> None:
    url = room.database.writer
    for command in (["prune", "--by", "x"], ["hold"], ["pack"]):
        refused = CliRunner().invoke(app, [*command, "--ledger", url])
        assert refused.exit_code == 2
        assert "a ledger in files" in json.dumps(refused.stderr)
