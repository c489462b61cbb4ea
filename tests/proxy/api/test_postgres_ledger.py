"""The whole proxy on a ledger in a real PostgreSQL: the record first, then the bytes."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.month import read_month
from audit.query import Filter, query, uninspected_egress
from audit.stores.postgres_copy import copy_ledger
from audit.verify import verify
from demo.stand_in_cloud import StandInCloud
from tests.audit.stores.database import Database, a_database, server_or_skip, sql
from tests.harness import SCHEMA, RunningProxy, records_in, running_proxy, write_policy
from tests.promises.test_chains_climb import (
    CHEAP,
    DEAR,
    QUESTION,
    at_the_gate,
    reply,
    with_chain,
)

pytestmark = pytest.mark.slow


def num_intents(database: Database) -> int:
    """How many intents stand in the table."""
    (row,) = sql(
        database.reader,
        "SELECT count(*) FROM ringfence.line WHERE convert_from(line, 'UTF8') LIKE $1",
        '%"kind":"egress.intent"%',
    )
    return int(row[0])


def until_it_leaves_again(proxy: RunningProxy, cloud: StandInCloud) -> None:
    """Ask until a request leaves: the ledger comes back by itself."""
    deadline = time.monotonic() + 60
    while len(cloud.requests) < 2 and time.monotonic() < deadline:
        with contextlib.suppress(openai.APIStatusError):
            proxy.ask("Name a colour of the sea.")
        time.sleep(0.5)


@pytest.mark.timeout(600)
def test_what_leaves_is_in_the_database_first_and_without_it_nothing_leaves(
    local_url: str, tmp_path: Path
) -> None:
    with a_database(server_or_skip()) as database, StandInCloud() as cloud:
        kept = ("\nrules:", "\nrecord: {retention_days: 400}\nrules:")
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local_url,
            "RINGFENCE_LEDGER_URL": database.writer,
            "RINGFENCE_POLICY_FILE": str(write_policy(tmp_path, cloud.base_url, [kept])),
        }
        with running_proxy(tmp_path, cloud.base_url, env) as proxy:
            assert proxy.ask("Name a colour of the rainbow.").choices
            assert len(cloud.requests) == num_intents(database) == 1
            assert proxy.ask("I am Margarete Oberhuber and I have diabetes.").choices
            assert len(cloud.requests) == num_intents(database) == 1
            sql(database.owner, "ALTER TABLE ringfence.line RENAME TO line_away")
            with contextlib.suppress(openai.APIStatusError):  # answered at home, or refused
                proxy.ask("Name a colour of the sky.")
            assert len(cloud.requests) == 1
            sql(database.owner, "ALTER TABLE ringfence.line_away RENAME TO line")
            until_it_leaves_again(proxy, cloud)
            assert len(cloud.requests) == num_intents(database) == 2
        copy_ledger(database.reader, tmp_path / "copy")
        log = proxy.log_path.read_text()
    report = verify(tmp_path / "copy")
    assert (report.faults, report.open_chains, report.open_intents) == ([], 0, 0)
    assert len(query(tmp_path / "copy", Filter(kind="egress.intent"))) == 2
    assert uninspected_egress(tmp_path / "copy", Filter()) == []
    records = records_in(tmp_path / "copy")
    for record in records:
        SCHEMA.validate(record)
    (loaded,) = [record["detail"] for record in records if record["kind"] == "policy.loaded"]
    assert isinstance(loaded, dict)
    assert loaded["retention_days"] == 400
    assert not (tmp_path / "data" / "ledger" / "wal").exists()
    assert database.writer not in log


@pytest.mark.timeout(600)
def test_a_chain_records_each_attempt_and_a_kill_between_two_leaves_it_sound(
    local_url: str, gate: threading.Event, tmp_path: Path
) -> None:
    there = threading.Event()
    with a_database(server_or_skip()) as database, StandInCloud(reply) as cloud:
        env = {
            **with_chain(tmp_path, local_url),
            "RINGFENCE_LEDGER_URL": database.writer,
        }
        with running_proxy(tmp_path, cloud.base_url, env) as proxy:
            assert proxy.ask(QUESTION).model == DEAR
            assert len(cloud.requests) == num_intents(database) == 2
            cloud.reply = at_the_gate(there, gate)
            with ThreadPoolExecutor(1) as client:
                asked = client.submit(proxy.ask, QUESTION)
                assert there.wait(60)
                assert len(cloud.requests) == num_intents(database) == 4
                proxy.process.send_signal(signal.SIGKILL)
                with pytest.raises(openai.APIConnectionError):
                    asked.result()
        gate.set()
        cloud.reply = reply
        with running_proxy(tmp_path, cloud.base_url, env) as proxy:
            assert proxy.ask(QUESTION).model == DEAR
        copy = tmp_path / "copy"
        copy_ledger(database.reader, copy)
        span = ("--from", "2020-01-01", "--to", "2100-01-01", "--destination-region", "us")
        keys = ("--keys", str(tmp_path / "data" / "keys"))
        told = CliRunner().invoke(
            app, ["attest", "--no-egress-of", "health", *span, *keys, database.writer]
        )
    report = verify(copy)
    assert (report.faults, report.open_intents) == ([], 0)
    assert told.exit_code == 0, told.output
    records: list[Any] = records_in(copy)
    intents = [one for one in records if one["kind"] == "egress.intent"]
    assert sorted((one["attempt"], one["model"]) for one in intents) == [
        *[(1, CHEAP)] * 3,
        *[(2, DEAR)] * 3,
    ]
    outcomes = {one["intent_id"]: one for one in records if one["kind"] == "egress.outcome"}
    assert sorted(outcomes) == sorted(one["id"] for one in intents)
    lost = [one for one in outcomes.values() if one["sent"] == "unknown"]
    assert [one["attempt"] for one in lost] == [2]
    (row,) = read_month(copy, str(records[0]["time"])[:7]).transfers.values()
    assert (row.requests, row.attempts) == (3, 6)
