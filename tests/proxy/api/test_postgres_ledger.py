"""The whole proxy on a ledger in a real PostgreSQL: the record first, then the bytes."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import openai
import pytest

from audit.query import Filter, query, uninspected_egress
from audit.stores.postgres_copy import copy_ledger
from audit.verify import verify
from demo.stand_in_cloud import StandInCloud
from tests.audit.stores.database import Database, a_database, server_or_skip, sql
from tests.harness import SCHEMA, RunningProxy, records_in, running_proxy, write_policy

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
