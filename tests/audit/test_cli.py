"""`ringfence audit verify` as an auditor runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.ledger import Ledger


@pytest.fixture
async def ledger_dir(tmp_path: Path) -> Path:
    """A small ledger that was closed."""
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    await ledger.event("start", {"version": "1"})
    await ledger.close()
    return tmp_path / "ledger"


async def test_a_sound_ledger_is_exit_code_0(ledger_dir: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(ledger_dir)])
    assert done.exit_code == 0
    assert "SOUND" in done.output


async def test_a_changed_ledger_is_exit_code_1_and_says_where(ledger_dir: Path) -> None:
    (segment,) = (ledger_dir / "wal").rglob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"version":"1"', b'"version":"2"'))
    done = CliRunner().invoke(app, ["verify", str(ledger_dir), "--json"])
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert told["is_sound"] is False
    assert told["kinds"]["chain.opened"] == 1
    assert told["faults"][0]["file"].endswith(segment.name)
    assert "CHANGED" in CliRunner().invoke(app, ["verify", str(ledger_dir)]).output


async def test_no_ledger_is_exit_code_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "no ledger" in done.output
