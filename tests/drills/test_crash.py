"""The crash drill: workers of one ledger are killed at random moments under load.

20 kills by default; ``RINGFENCE_DRILL_KILLS=200`` for the full drill, in rounds of 20 on a ledger
each, since all of a ledger is verified after each kill while its workers go on writing.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import socketserver
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from audit.capture_keys import load_private_key, make_capture_key
from audit.captures import remove_orphans
from audit.chain import read_line
from audit.ledger import Ledger
from audit.stores.postgres import PostgresStore
from audit.stores.postgres_copy import copy_ledger
from audit.vault import VAULT, answered_of, captured_of, open_answer, open_capture
from audit.verify import verify
from tests.audit.stores.conftest import database as database
from tests.audit.stores.database import Database
from tests.audit.test_ledger import lines_of, open_ledger
from tests.drills.hammer import CAPTURE_KEY, hammer

NUM_KILLS = int(os.environ.get("RINGFENCE_DRILL_KILLS", "20"))
KILLS_A_ROUND = 20
NUM_WORKERS = 2
SPAWN = multiprocessing.get_context("forkserver")


class Upstream(socketserver.ThreadingUnixStreamServer):
    """Records the id of every request that it sees."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.seen: set[str] = set()
        super().__init__(path, _Recorder)

    def wait_for_more(self) -> None:
        """Return when one more request came: on a busy machine a worker is slow to begin."""
        before, deadline = len(self.seen), time.monotonic() + 60
        while len(self.seen) == before:
            assert time.monotonic() < deadline, "no worker sends anything"
            time.sleep(0.005)


class _Recorder(socketserver.StreamRequestHandler):
    server: Upstream

    def handle(self) -> None:
        for line in self.rfile:
            if line.endswith(b"\n"):
                self.server.seen.add(line.decode().strip())


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(str(tmp_path / "u.sock")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def running_worker(folder: Path, url: str | None = None) -> Iterator[ForkServerProcess]:
    """A hammering process; killed at the end if it still runs."""
    worker = SPAWN.Process(target=hammer, args=(str(folder), str(folder / "u.sock"), url))
    worker.start()
    try:
        yield worker
    finally:
        worker.kill()
        worker.join()


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> Iterator[None]:
    """Workers start from a process that has the ledger's code loaded; it ends with the module."""
    SPAWN.set_forkserver_preload(["tests.drills.hammer"])
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # it has no public way to end


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5, 5 + max(1, NUM_KILLS // KILLS_A_ROUND)))
def test_no_request_without_an_intent_however_often_workers_are_killed(
    tmp_path: Path, upstream: Upstream, seed: int
) -> None:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(running_worker(tmp_path)) for _ in range(NUM_WORKERS)]
        dice = random.Random(seed)  # noqa: S311  # a seeded choice of moments, no secret
        for number in range(KILLS_A_ROUND):
            upstream.wait_for_more()
            time.sleep(dice.uniform(0.0, 0.25))
            for at in dice.sample(range(NUM_WORKERS), dice.randint(1, NUM_WORKERS)):
                workers[at].kill()
                workers[at].join()
                workers[at] = stack.enter_context(running_worker(tmp_path))
            if (tmp_path / "ledger" / "wal").is_dir():
                assert verify(tmp_path / "ledger").faults == [], number
    asyncio.run(open_ledger(tmp_path).close())

    report = verify(tmp_path / "ledger")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    members = [read_line(line) for line in lines_of(tmp_path)]
    recorded = {member["id"] for member in members if member["kind"] == "egress.intent"}
    assert len(upstream.seen) >= KILLS_A_ROUND
    assert upstream.seen <= recorded


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bodies_and_answers_are_whole_however_often_workers_that_capture_are_killed(
    tmp_path: Path, upstream: Upstream
) -> None:
    public = make_capture_key(tmp_path / "auditor")
    (tmp_path / CAPTURE_KEY).write_bytes(public.read_bytes())
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(running_worker(tmp_path)) for _ in range(NUM_WORKERS)]
        dice = random.Random(7)  # noqa: S311  # a seeded choice of moments, no secret
        for _ in range(min(NUM_KILLS, KILLS_A_ROUND)):
            upstream.wait_for_more()
            time.sleep(dice.uniform(0.0, 0.25))
            at = dice.randrange(NUM_WORKERS)
            workers[at].kill()
            workers[at].join()
            workers[at] = stack.enter_context(running_worker(tmp_path))
    asyncio.run(open_ledger(tmp_path).close())

    ledger = tmp_path / "ledger"
    report = verify(ledger)
    assert report.faults == []
    intents = [m for m in map(read_line, lines_of(tmp_path)) if m["kind"] == "egress.intent"]
    assert upstream.seen <= {intent["id"] for intent in intents}
    assert report.num_captured == len(intents)
    private = load_private_key(tmp_path / "auditor" / "capture.key")
    for intent in intents:  # whole, though its writer may have died just after
        captured = captured_of(intent)
        assert captured is not None
        assert open_capture(ledger / VAULT, captured, private) == b"body"
    outcomes = [m for m in map(read_line, lines_of(tmp_path)) if m["kind"] == "egress.outcome"]
    answers = [answered for m in outcomes if (answered := answered_of(m)) is not None]
    assert 0 < len(answers) == report.num_answers <= len(intents)
    assert all(open_answer(ledger / VAULT, one, private) == b"answer" for one in answers)
    # A capture whose writer died before its intent, or an answer before its outcome.
    remove_orphans(ledger, older_than_s=0)
    report = verify(ledger)
    assert (report.faults, report.num_orphans, report.num_captured) == ([], 0, len(intents))
    assert report.num_answers == len(answers)


@pytest.mark.slow
@pytest.mark.timeout(60 + 6 * NUM_KILLS)
def test_no_request_without_a_row_however_often_workers_are_killed(
    tmp_path: Path, upstream: Upstream, database: Database
) -> None:
    with contextlib.ExitStack() as stack:

        def start() -> ForkServerProcess:
            return stack.enter_context(running_worker(tmp_path, database.writer))

        workers = [start() for _ in range(NUM_WORKERS)]
        dice = random.Random(6)  # noqa: S311  # a seeded choice of moments, no secret
        for _ in range(NUM_KILLS):
            time.sleep(dice.uniform(0.0, 0.25))
            at = dice.randrange(NUM_WORKERS)
            workers[at].kill()
            workers[at].join()
            workers[at] = start()
        for _ in range(400):
            if len(upstream.seen) > NUM_KILLS:
                break
            time.sleep(0.05)
    asyncio.run(Ledger.open_store(PostgresStore(database.writer, tmp_path / "keys")).close())

    copy_ledger(database.reader, tmp_path / "ledger")
    report = verify(tmp_path / "ledger")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    members = [read_line(line) for line in lines_of(tmp_path)]
    recorded = {member["id"] for member in members if member["kind"] == "egress.intent"}
    assert len(upstream.seen) > NUM_KILLS
    assert upstream.seen <= recorded
