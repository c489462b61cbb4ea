"""The auditor's guide: each of its commands runs, in order, over a ledger that was just written."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.test_month import _fill
from tests.harness import ROOT
from tests.reference_pages import DOCS

GUIDE = (DOCS / "auditor.md").read_text()

#: The command without the proxy around it, which the guide does not need and which takes its time.
RINGFENCE = f"""ringfence() {{
  shift
  {shlex.quote(sys.executable)} -c 'from audit.cli import app; app()' "$@"
}}"""


def commands() -> list[str]:
    """The commands of the guide's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def test_says_integrity_not_correctness() -> None:
    assert "**Integrity, not correctness.**" in GUIDE


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_of_the_guide_runs(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "data").mkdir()
    asyncio.run(_fill(tmp_path / "data"))
    script = [RINGFENCE, "set -euo pipefail", *commands()]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "SOUND",
        "uninspected egress = 0",
        "no request in which health was found left",
        "the ledger says the same",
        "PROVEN",
        "WHOLE",
        "reviewed: 1",
        "Signature Verified Successfully",
    ):
        assert told in done.stdout + done.stderr, told
