"""`ringfence policy stage` and `rollout`, on the settings of a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.errors import PolicyError
from proxy.policy.cli import app
from proxy.policy.staging import Order, ordered
from tests.proxy.policy.policies import write
from tests.proxy.policy.test_approval import LOOSE, STRICT
from tests.proxy.policy.test_replay import record

SOON = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RINGFENCE_POLICY_FILE", str(write(tmp_path, STRICT)))
    monkeypatch.setenv("RINGFENCE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "next").mkdir()
    write(tmp_path / "next", LOOSE)
    return tmp_path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, PolicyError):
        return 1, result.exception.public_message
    return result.exit_code, result.output


def test_stages_tells_and_ends(server: Path) -> None:
    assert run("stage") == (0, "nothing is staged\n")
    code, said = run("stage", server / "next" / "trial.yaml", "--until", SOON)
    assert code == 0
    assert "in the shadow until" in said
    assert run("stage")[1] == said
    assert run("stage", "--off") == (0, "nothing is staged\n")


def test_rolls_out_to_a_share(server: Path) -> None:
    code, said = run("rollout", server / "next" / "trial.yaml", "--share", 10, "--until", SOON)
    assert (code, "for 10 % of conversations until" in said) == (0, True)
    order = ordered(server / "data")
    assert isinstance(order, Order)
    assert order.share == 10


@pytest.mark.parametrize(
    "arguments",
    [
        ("stage", "next/trial.yaml"),
        ("stage", "next/trial.yaml", "--until", "2020-01-01"),
        ("stage", "next/trial.yaml", "--until", "2099-01-01"),
        ("rollout", "next/trial.yaml", "--share", "0", "--until", SOON),
        ("rollout", "next/trial.yaml", "--share", "101", "--until", SOON),
        ("rollout", "next/trial.yaml", "--share", "10"),
        ("stage", "next/nothing.yaml", "--until", SOON),
    ],
)
def test_refuses_what_has_no_end_or_no_sense(
    server: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(server)
    assert run(*arguments)[0] != 0
    assert ordered(server / "data") is None


def test_says_that_the_state_is_damaged(server: Path) -> None:
    run("stage", server / "next" / "trial.yaml", "--until", SOON)
    (server / "data" / "policy" / "staged.json").write_text("{")
    code, said = run("stage")
    assert (code, "is damaged" in said) == (1, True)


def test_reports_differences_by_app_and_action(server: Path) -> None:
    wal = server / "data" / "ledger" / "wal"
    wal.mkdir(parents=True)
    plain, differs = record(), record()
    differs["policy"]["shadow"] = {"digest": "sha256:" + "a" * 64, "action": "local_only"}
    lines = [json.dumps(each) + "\n" for each in (plain, differs, differs)]
    (wal / "chain.jsonl").write_text("".join(lines))
    code, said = run("stage", "--report")
    assert code == 0
    assert "2 desk: allow, candidate sha256:aaaaaaaaaaaa local_only" in said
    assert "2 of 3 recorded decisions differ" in said
