"""The ledger in a real PostgreSQL: rights, many writers, cut wires, lost answers, tampering."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from audit.chain import read_line
from audit.cli import app
from audit.errors import AuditError, LedgerUnwritable
from audit.ledger import Ledger
from audit.query import Filter, query
from audit.record import fields_of
from audit.stores.postgres import PostgresStore
from audit.stores.postgres_copy import copy_ledger, rights_over_records
from audit.verify import Report, verify
from audit.writer import ChainHead, ChainWriter, Entry
from tests.audit.stores.database import Database, Wire, in_thread_sync, sql
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome
from tests.harness import SCHEMA


def open_on(url: str, folder: Path, seal_every_s: float = 0.05) -> Ledger:
    return Ledger.open_store(PostgresStore(url, folder / "keys"), seal_every_s=seal_every_s)


def checked(url: str, folder: Path) -> Report:
    in_thread_sync(lambda: copy_ledger(url, folder))
    return verify(folder)


def members_of(url: str) -> list[dict[str, Any]]:
    rows = sql(url, "SELECT line FROM ringfence.line ORDER BY chain, seq")
    members = [dict(read_line(row["line"])) for row in rows]
    for record in members:
        SCHEMA.validate(record)
    return members


def abandon(ledger: Ledger) -> None:
    """Leave a ledger as a killed process does: its sessions end, its chain does not."""
    ledger._seal_thread.stop()
    ledger._writer.close()
    ledger._store.close()


async def exchange(ledger: Ledger) -> str:
    permit = await ledger.intent(an_intent(), b"body", ORIGIN)
    await ledger.outcome(an_outcome(permit))
    return permit.intent_id


async def until_writable(ledger: Ledger) -> None:
    async with asyncio.timeout(60):
        while not ledger.writable:
            await asyncio.sleep(0.02)


async def until_there(url: str, kind: str, number: int = 1) -> None:
    """Wait until so many records of a kind stand in the database."""
    async with asyncio.timeout(60):
        while sum(member["kind"] == kind for member in members_of(url)) < number:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("table", ["line", "head", "epoch", "finished"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_writers_role_cannot_take_anything_back(
    database: Database, table: str, statement: str
) -> None:
    column = {"line": "seq", "head": "index", "epoch": "number", "finished": "chain"}[table]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        sql(database.writer, statement.format(f"ringfence.{table}", column, column))


@pytest.mark.parametrize("table", ["line", "head", "epoch", "finished"])
def test_the_readers_role_cannot_add_anything(database: Database, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        sql(database.reader, f"INSERT INTO ringfence.{table} DEFAULT VALUES")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        sql(database.reader, "SELECT sealed FROM ringfence.secret")


def test_a_role_that_may_do_more_is_named(database: Database) -> None:
    assert rights_over_records(database.writer) == []
    assert rights_over_records(database.owner) == ["update", "delete", "truncate"]


async def a_closed_ledger(url: str, folder: Path) -> list[str]:
    """Forty exchanges at once; returns the intents' ids."""
    ledger = open_on(url, folder)
    intents = await asyncio.gather(*(exchange(ledger) for _ in range(40)))
    await ledger.close()
    return list(intents)


def test_keeps_the_same_lines_which_verify_query_and_prove(
    database: Database, tmp_path: Path
) -> None:
    intents = asyncio.run(a_closed_ledger(database.writer, tmp_path))
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    assert report.num_records == 82
    found = query(tmp_path / "copy", Filter(kind="egress.intent"))
    assert {row["id"] for row in found} == set(intents)
    proof = CliRunner().invoke(app, ["prove", intents[0], database.reader])
    (tmp_path / "proof").write_text(proof.stdout)
    shown = CliRunner().invoke(app, ["check", str(tmp_path / "proof"), "--key", report.key])
    assert json.loads(shown.stdout)["id"] == intents[0]
    told = CliRunner().invoke(app, ["verify", "--json", database.reader])
    assert json.loads(told.stdout)["is_sound"] is True
    shown = CliRunner().invoke(app, ["tail", "--no-follow", "--format", "json", database.reader])
    assert json.loads(shown.stdout.splitlines()[-1])["kind"] == "chain.closed"
    assert CliRunner().invoke(app, ["tail", database.reader]).exit_code == 2


async def test_many_writers_seal_one_tree(database: Database, tmp_path: Path) -> None:
    ledgers = [open_on(database.writer, tmp_path, seal_every_s=0.01) for _ in range(4)]
    for _ in range(5):
        await asyncio.gather(*(exchange(ledger) for ledger in ledgers for _ in range(8)))
    await asyncio.gather(*(ledger.close() for ledger in ledgers))
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.num_chains, report.num_unsealed, report.open_intents) == (4, 0, 0)


async def test_a_start_adopts_the_chain_of_a_writer_that_is_gone(
    database: Database, tmp_path: Path
) -> None:
    ledger = open_on(database.writer, tmp_path)
    permit = await ledger.intent(an_intent(), b"body", ORIGIN)
    abandon(ledger)
    await open_on(database.writer, tmp_path).close()
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    (ending,) = [m for m in members_of(database.reader) if m.get("intent_id") == permit.intent_id]
    assert (ending["sent"], ending["error_type"]) == ("unknown", "writer_lost")


async def test_a_living_writers_chain_is_not_adopted(database: Database, tmp_path: Path) -> None:
    ledger = open_on(database.writer, tmp_path)
    await open_on(database.writer, tmp_path).close()
    await exchange(ledger)
    await ledger.close()
    assert checked(database.reader, tmp_path / "copy").faults == []
    assert "recovery" not in {member["kind"] for member in members_of(database.reader)}


async def test_no_answer_gives_no_permit_and_it_recovers_by_itself(
    database: Database, wire: Wire, tmp_path: Path
) -> None:
    ledger = open_on(wire.url, tmp_path)
    await exchange(ledger)
    wire.cut()
    with pytest.raises(LedgerUnwritable):
        await ledger.intent(an_intent(), b"body", ORIGIN)
    assert not ledger.writable
    wire.mend()
    await until_writable(ledger)  # nobody asks it for anything meanwhile
    await exchange(ledger)
    await ledger.close()
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    assert report.kinds["recovery"] == 1


async def test_a_record_whose_answer_was_lost_stands_once_and_its_intent_is_closed_as_not_sent(
    database: Database, wire: Wire, tmp_path: Path
) -> None:
    ledger = open_on(wire.url, tmp_path, seal_every_s=0.5)
    wire.lose_answers = True
    waiting = asyncio.ensure_future(ledger.intent(an_intent(), b"body", ORIGIN))
    await until_there(database.reader, "egress.intent")
    wire.cut()
    with pytest.raises(LedgerUnwritable):
        await waiting
    wire.mend()
    await until_writable(ledger)
    await exchange(ledger)
    await ledger.close()
    members = members_of(database.reader)
    first, _ = [member for member in members if member["kind"] == "egress.intent"]
    (ending,) = [member for member in members if member.get("intent_id") == first["id"]]
    assert (ending["sent"], ending["error_type"]) == ("no", "refused")
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)


@pytest.mark.parametrize("recovers", [True, False], ids=["recovers first", "closed as it is"])
async def test_an_outcome_whose_answer_was_lost_stands_once(
    recovers: bool, database: Database, wire: Wire, tmp_path: Path
) -> None:
    ledger = open_on(wire.url, tmp_path, seal_every_s=0.5 if recovers else 60.0)
    permit = await ledger.intent(an_intent(), b"body", ORIGIN)
    wire.lose_answers = True
    waiting = asyncio.ensure_future(ledger.outcome(an_outcome(permit)))
    await until_there(database.reader, "egress.outcome")
    wire.cut()
    with pytest.raises(LedgerUnwritable):
        await waiting
    wire.mend()
    if recovers:
        await until_writable(ledger)
    await ledger.close()
    (ending,) = (one for one in members_of(database.reader) if one["kind"] == "egress.outcome")
    assert ending["sent"] == "yes"
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)


class LosingSink:
    """Lines in memory; while ``loses``, they stand and the writer is told that they do not."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.loses = False
        self._doubtful: tuple[bytes, ...] = ()

    def append(self, lines: Sequence[bytes]) -> None:
        self.lines += lines
        if self.loses:
            self._doubtful = tuple(lines)
            raise LedgerUnwritable("it does not answer")

    def landed(self) -> tuple[bytes, ...]:
        landed, self._doubtful = self._doubtful, ()
        return landed

    def close(self) -> None: ...


def test_what_closes_a_refused_intent_stands_once_though_its_answer_is_lost_too() -> None:
    sink = LosingSink()
    writer = ChainWriter(sink, ChainHead("c_1"))
    sink.loses = True
    for number in range(3):
        intent = {**fields_of(an_intent()), "attempt": number + 1}
        with pytest.raises(LedgerUnwritable):
            writer.submit(Entry("egress.intent", f"int_{number}", intent)).result(10)
    sink.loses = False
    writer.submit(Entry("note", "rec_1", {"detail": {}})).result(10)
    writer.close()
    members = [read_line(line) for line in sink.lines]
    assert [one["seq"] for one in members] == list(range(len(members)))
    endings = [one["intent_id"] for one in members if one["kind"] == "egress.outcome"]
    assert endings == ["int_0", "int_1", "int_2"]


@pytest.mark.parametrize("lands", [True, False])
async def test_an_intent_that_its_caller_left_and_that_was_refused_is_closed_once_if_it_stands(
    lands: bool, database: Database, wire: Wire, tmp_path: Path
) -> None:
    ledger = open_on(wire.url, tmp_path, seal_every_s=60.0)
    wire.lose_answers = lands
    if not lands:
        wire.cut()
    waiting = asyncio.ensure_future(ledger.intent(an_intent(), b"body", ORIGIN))
    if lands:
        await until_there(database.reader, "egress.intent")
    else:
        await asyncio.sleep(0.2)
    waiting.cancel()
    wire.cut()
    with pytest.raises((asyncio.CancelledError, LedgerUnwritable)):
        await waiting
    wire.mend()
    await exchange(ledger)
    await ledger.close()
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)


async def test_a_writer_whose_chain_was_taken_over_begins_a_new_one(
    database: Database, wire: Wire, tmp_path: Path
) -> None:
    ledger = open_on(wire.url, tmp_path)
    permit = await ledger.intent(an_intent(), b"body", ORIGIN)
    first_chain = ledger.chain
    wire.cut()
    await asyncio.sleep(0.2)
    await open_on(database.writer, tmp_path).close()  # adopts it
    wire.mend()
    with pytest.raises(LedgerUnwritable):
        await ledger.intent(an_intent(), b"body", ORIGIN)
    await until_writable(ledger)
    assert ledger.chain != first_chain
    with pytest.raises(AuditError, match="closed as unknown"):
        await ledger.outcome(an_outcome(permit))
    await exchange(ledger)
    await ledger.close()
    report = checked(database.reader, tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)


async def test_a_key_is_no_use_without_the_secret(database: Database, tmp_path: Path) -> None:
    await open_on(database.writer, tmp_path / "one").close()
    with pytest.raises(LedgerUnwritable, match=r"copy ledger\.kek"):
        open_on(database.writer, tmp_path / "two")
    (tmp_path / "two" / "keys").mkdir(parents=True)
    (tmp_path / "two" / "keys" / "ledger.kek").write_bytes(bytes(32))
    with pytest.raises(LedgerUnwritable, match="not the secret of this ledger"):
        open_on(database.writer, tmp_path / "two")
    secret = (tmp_path / "one" / "keys" / "ledger.kek").read_bytes()
    (tmp_path / "two" / "keys" / "ledger.kek").write_bytes(secret)
    await open_on(database.writer, tmp_path / "two").close()
    assert checked(database.reader, tmp_path / "copy").faults == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ringfence.line SET line = overlay(line placing 'x' from 40) WHERE seq = 2",
        "DELETE FROM ringfence.line WHERE seq = 2",
        "DELETE FROM ringfence.line WHERE seq > 2",
        "DELETE FROM ringfence.line",
        "UPDATE ringfence.line SET chain = '../../' || chain",
        "DELETE FROM ringfence.head WHERE index = 1",
        "DELETE FROM ringfence.head WHERE index = (SELECT max(index) FROM ringfence.head)",
        "UPDATE ringfence.head SET note = overlay(note placing 'x' from 30) WHERE index = 1",
        "DELETE FROM ringfence.epoch",
    ],
)
async def test_what_an_administrator_changes_is_found(
    database: Database, tmp_path: Path, statement: str
) -> None:
    ledger = open_on(database.writer, tmp_path)
    await exchange(ledger)
    await ledger.close()
    sql(database.owner, statement)
    assert checked(database.reader, tmp_path / "ledger" / "copy").faults
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["copy"]


async def test_a_database_without_tables_or_answer_is_said_without_its_address(
    database: Database, wire: Wire, tmp_path: Path
) -> None:
    wire.cut()
    begun = time.monotonic()
    with pytest.raises(LedgerUnwritable) as caught:
        open_on(wire.url.replace("@", ":hunter2@"), tmp_path)
    assert time.monotonic() - begun < 30
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    sql(database.owner, "DROP SCHEMA ringfence CASCADE")
    with pytest.raises(LedgerUnwritable, match=r"UndefinedTable|InvalidSchema"):
        open_on(database.writer, tmp_path)


def test_a_database_that_may_lose_commits_is_refused(database: Database, tmp_path: Path) -> None:
    ledger = open_on(f"{database.writer}?synchronous_commit=off", tmp_path)
    shown = ledger._store._link.run(  # type: ignore[attr-defined]
        lambda connection: connection.fetchval("SHOW synchronous_commit")
    )
    abandon(ledger)
    assert shown == "on"
