"""The outage drill: the ledger's PostgreSQL is stopped under load, and comes back.

A cluster of its own, stopped for 2 s; ``RINGFENCE_DRILL_OUTAGE_S=10`` for the full drill.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.chain import read_line
from audit.errors import AuditError
from audit.ledger import Ledger
from audit.stores.postgres import PostgresStore
from audit.stores.postgres_copy import copy_ledger
from audit.verify import verify
from tests.audit.stores.database import Database, a_database, in_thread_sync, sql
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome

OUTAGE_S = float(os.environ.get("RINGFENCE_DRILL_OUTAGE_S", "2"))
NUM_CALLERS = 16
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS, reason="the programs of a PostgreSQL server are not here"),
]


class Cluster:
    """A server of its own, run by a user that is not root."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        if self._user:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        log = str(self._data / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str) -> None:
        """Stop it; ``immediate`` is what a crash does."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def _run(self, program: str, *words: str) -> None:
        command = [*self._user, str(PROGRAMS[-1].with_name(program)), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        made = Cluster(Path(folder))
        made.start()
        yield made
        made.stop("immediate")


async def call(ledger: Ledger, left: set[str], over: asyncio.Event) -> None:
    """Send one request after another, each with its permit; a refused one is tried again."""
    while not over.is_set():
        try:
            permit = await ledger.intent(an_intent(), b"body", ORIGIN)
            permit.redeem(b"body", ORIGIN)
            left.add(permit.intent_id)
            await ledger.outcome(an_outcome(permit))
        except AuditError:
            await asyncio.sleep(0.01)


async def load(ledger: Ledger, cluster: Cluster) -> tuple[set[str], int, int]:
    """What left in all, and how many while the server was down and after it."""
    left: set[str] = set()
    over = asyncio.Event()
    callers = [asyncio.create_task(call(ledger, left, over)) for _ in range(NUM_CALLERS)]
    await asyncio.sleep(1)
    await asyncio.to_thread(cluster.stop, "immediate")
    before = len(left)
    await asyncio.sleep(OUTAGE_S)
    meanwhile = len(left) - before
    await asyncio.to_thread(cluster.start)
    for _ in range(500):
        if len(left) > before + 100:
            break
        await asyncio.sleep(0.05)
    over.set()
    await asyncio.gather(*callers)
    return left, meanwhile, len(left) - before


@contextlib.contextmanager
def ledger_on(database: Database, folder: Path) -> Iterator[Ledger]:
    store = PostgresStore(database.writer, folder / "keys")
    yield Ledger.open_store(store, seal_every_s=0.1)


@pytest.mark.timeout(120)
async def test_nothing_leaves_unrecorded_while_the_server_is_down_and_it_comes_back_by_itself(
    cluster: Cluster, tmp_path: Path
) -> None:
    with a_database(cluster.url) as database, ledger_on(database, tmp_path) as ledger:
        left, meanwhile, afterwards = await load(ledger, cluster)
        await ledger.close()
        rows = sql(database.reader, "SELECT line FROM ringfence.line")
        in_thread_sync(lambda: copy_ledger(database.reader, tmp_path / "copy"))
    assert meanwhile == 0
    assert afterwards > 100
    members = [read_line(row["line"]) for row in rows]
    recorded = {member["id"] for member in members if member["kind"] == "egress.intent"}
    assert left <= recorded
    report = verify(tmp_path / "copy")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    refused = {m["intent_id"] for m in members if m.get("error_type") == "refused"}
    assert recorded - refused == left
