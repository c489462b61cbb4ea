"""The fault drill: the kernel fails, or the process dies, at every kind of file call in turn.

One call of each kind by default; ``RINGFENCE_DRILL_FAULTS=full`` for six of each.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit.chain import read_line
from audit.verify import verify
from tests.audit.test_ledger import lines_of, open_ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

WHEN = [1, 2, 3, 5, 8, 13] if os.environ.get("RINGFENCE_DRILL_FAULTS") == "full" else [3]

CHILD = """
import asyncio, os, sys
from pathlib import Path
from audit.errors import AuditError
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome, open_ledger
async def main():
    ledger = open_ledger(Path(sys.argv[1]))
    for _ in range(4):
        try:
            permit = await ledger.intent(an_intent(), b"body", ORIGIN)
            os.pwrite(acknowledged, permit.intent_id.encode() + b"\\n", 0)
            await ledger.outcome(an_outcome(permit))
            ledger._seal_thread.seal_once()
        except AuditError:
            pass
    await ledger.close()
acknowledged = os.open(sys.argv[1] + "/acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
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
