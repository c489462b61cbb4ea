"""The fault drill: the kernel fails, or the process dies, at every kind of file call in turn.

One call of each kind by default; ``RINGFENCE_DRILL_FAULTS=full`` for six of each.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit.capture_keys import load_public_key, make_capture_key
from audit.captures import ORPHAN_AFTER_S, remove_orphans
from audit.chain import read_line
from audit.ledger import Ledger
from audit.stores.files import FileStore
from audit.vault import VAULT, Vault
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome, lines_of, open_ledger
from tests.audit.test_packing import lines_in, small_segments
from tests.audit.test_prune import new_id, next_second

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

IS_FULL = os.environ.get("RINGFENCE_DRILL_FAULTS") == "full"
WHEN = [1, 2, 3, 5, 8, 13] if IS_FULL else [3]

CHILD = """
import asyncio, os, sys
from pathlib import Path
from audit.capture_keys import load_public_key
from audit.errors import AuditError
from audit.ledger import Ledger
from audit.stores.files import FileStore
from audit.vault import Vault
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome
folder = Path(sys.argv[1])
async def main():
    vault = Vault(folder / "ledger/vault", load_public_key(folder / "proxy.pub"))
    ledger = Ledger.open_store(FileStore(folder / "ledger", folder / "keys"), vault=vault)
    for _ in range(4):
        try:
            permit = await ledger.intent(an_intent(), b"body", ORIGIN)
            os.pwrite(acknowledged, permit.intent_id.encode() + b"\\n", 0)
            await ledger.outcome(an_outcome(permit), b"answer", keep=True)
            ledger._seal_thread.seal_once()
        except AuditError:
            pass
    await ledger.close()
acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
try:
    asyncio.run(main())
except AuditError:
    sys.exit(3)
"""


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=KILL"])
@pytest.mark.parametrize(
    "call", ["write", "fdatasync", "fsync", "link", "rename", "mkdir", "unlink", "ftruncate"]
)
def test_what_was_acknowledged_stands_and_the_ledger_is_sound(
    call: str, fault: str, when: int, tmp_path: Path
) -> None:
    _alone(make_capture_key(tmp_path / "auditor"), tmp_path)
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    inject = ["-e", f"inject={call}:{fault}:when={when}"]
    run = subprocess.run(
        [*strace, *inject, sys.executable, "-c", CHILD, str(tmp_path)],
        capture_output=True,
        check=False,
    )
    assert run.returncode in (0, 3, -9, 137), run.stderr.decode()[-2000:]
    if (tmp_path / "ledger" / "wal").is_dir():
        assert verify(tmp_path / "ledger").faults == []
    asyncio.run(open_ledger(tmp_path).close())
    report = verify(tmp_path / "ledger")
    assert report.faults == []
    assert (report.open_chains, report.open_intents, report.num_unsealed) == (0, 0, 0)
    recorded = {read_line(line)["id"] for line in lines_of(tmp_path)}
    acknowledged = (tmp_path / "acknowledged").read_text().split()
    assert set(acknowledged) <= recorded
    remove_orphans(tmp_path / "ledger", older_than_s=0)
    report = verify(tmp_path / "ledger")
    assert (report.faults, report.num_orphans) == ([], 0)
    kept = len(list((tmp_path / "ledger" / VAULT).glob("*/*")))
    assert kept == 2 * report.num_captured + report.num_answers


OLD = """
import os, sys
from datetime import datetime, UTC
from pathlib import Path
from audit.errors import AuditError
from audit.packing import pack_ledger
from audit.prune import prune
folder = Path(sys.argv[1])
try:
    if sys.argv[2] == "pack":
        pack_ledger(folder / "ledger", min_bytes=0)
    else:
        cut = datetime.fromtimestamp(float(sys.argv[3]), UTC)
        prune(folder / "ledger", folder / "keys", 0, "Jane Doe", now=cut)
except (AuditError, OSError) as error:
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A ledger with old records, captured bodies and answers among them, and fresh ones; and the
    cut.
    """
    folder = tmp_path_factory.mktemp("old")
    public = make_capture_key(folder / "auditor")
    vault = Vault(folder / "ledger" / VAULT, load_public_key(_alone(public, folder)))

    async def run() -> None:
        store = FileStore(folder / "ledger", folder / "keys")
        ledger = Ledger.open_store(store, vault=vault)
        for _ in range(4):
            permit = await ledger.intent(an_intent(new_id()), b"body", ORIGIN)
            await ledger.outcome(an_outcome(permit), b"answer", keep=True)
        await ledger.close()

    with small_segments(2000):
        asyncio.run(run())
        asyncio.run(run())
    # What is removed is days old: a body whose intent went before a crash is no request under way.
    long_ago = time.time() - 2 * ORPHAN_AFTER_S
    for path in (folder / "ledger" / VAULT).glob("*/*"):
        os.utime(path, (long_ago, long_ago))
    cut = next_second()
    asyncio.run(run())
    return folder, cut.timestamp()


def _alone(public: Path, folder: Path) -> Path:
    """The public key, away from the private one."""
    return Path(shutil.copy(public, folder / "proxy.pub"))


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("fault", ["error=EIO", "signal=KILL", *["error=ENOSPC"][:IS_FULL]])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "unlink"])
@pytest.mark.parametrize("act", ["pack", "prune"])
def test_packing_and_removing_may_fail_anywhere_and_be_gone_on_with(
    act: str, call: str, fault: str, when: int, old: tuple[Path, float], tmp_path: Path
) -> None:
    folder, cut = old
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)  # their times too
    ledger = tmp_path / "ledger"
    before = set(lines_in(ledger))
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    inject = ["-e", f"inject={call}:{fault}:when={when}"]
    child = [sys.executable, "-c", OLD, str(tmp_path), act, str(cut)]
    run = subprocess.run([*strace, *inject, *child], capture_output=True, check=False)
    assert run.returncode in (0, 3, -9, 137), run.stderr.decode()[-2000:]
    assert verify(ledger).faults == []
    again = subprocess.run(child, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()[-2000:]
    report = verify(ledger)
    assert (report.faults, report.unfinished_removals, report.open_chains) == ([], [], 0)
    assert not [path for path in (ledger / "wal").rglob(".*")]
    left = set(lines_in(ledger))
    if act == "pack":
        assert left == before
    else:
        assert report.kinds["egress.intent"] == 4
        assert (report.num_captured, report.num_answers, report.num_orphans) == (4, 4, 0)
        assert len(list((ledger / VAULT).glob("*/*"))) == 12
