"""The crash drill: workers of one ledger are killed at random moments under load.

20 kills by default; ``RINGFENCE_DRILL_KILLS=200`` for the full drill.
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

from audit.chain import read_line
from audit.verify import verify
from tests.audit.test_ledger import lines_of, open_ledger
from tests.drills.hammer import hammer

NUM_KILLS = int(os.environ.get("RINGFENCE_DRILL_KILLS", "20"))
NUM_WORKERS = 2
SPAWN = multiprocessing.get_context("forkserver")


class Upstream(socketserver.ThreadingUnixStreamServer):
    """Records the id of every request that it sees."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.seen: set[str] = set()
        super().__init__(path, _Recorder)


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
def running_worker(folder: Path) -> Iterator[ForkServerProcess]:
    """A hammering process; killed at the end if it still runs."""
    worker = SPAWN.Process(target=hammer, args=(str(folder), str(folder / "u.sock")))
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
@pytest.mark.timeout(60 + 6 * NUM_KILLS)
def test_no_request_without_an_intent_however_often_workers_are_killed(
    tmp_path: Path, upstream: Upstream
) -> None:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(running_worker(tmp_path)) for _ in range(NUM_WORKERS)]
        dice = random.Random(5)  # noqa: S311  # a seeded choice of moments, no secret
        for number in range(NUM_KILLS):
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
    assert len(upstream.seen) > NUM_KILLS
    assert upstream.seen <= recorded
