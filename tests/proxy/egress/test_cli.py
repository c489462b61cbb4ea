"""`ringfence egress` as a person in an incident runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.egress.cli import app
from proxy.errors import SettingsError
from proxy.policy.switch import EgressSwitch


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments], env={"RINGFENCE_DATA_DIR": str(folder)})
    if isinstance(done.exception, SettingsError):
        raise done.exception
    return done.exit_code, done.output


def test_off_holds_until_on(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "keys").mkdir(parents=True)
    code, said = run(folder, "status")
    assert (code, said) == (0, f"egress is on: what policy lets leave may leave, by {folder}\n")
    code, said = run(folder, "off", "--by", "sec@example.com", "--why", "INC-7 [bold]")
    assert code == 0
    assert "off: nothing leaves (sec@example.com" in said
    assert "INC-7 [bold]" in said
    assert not EgressSwitch(folder).is_on()
    code, said = run(folder, "status", "--json")
    assert (code, json.loads(said)["by"]) == (1, "sec@example.com")
    assert run(folder, "on")[0] == 0
    assert EgressSwitch(folder).is_on()


def test_says_where_no_proxy_looks_at_the_switch(tmp_path: Path) -> None:
    code, said = run(tmp_path / "elsewhere", "off", "--by", "a", "--why", "b")
    assert code == 1  # nothing was stopped by that
    assert f"No proxy has run on {tmp_path / 'elsewhere'}" in said
    assert not EgressSwitch(tmp_path / "elsewhere").is_on()  # for one that starts there
    assert "No proxy has run" in run(tmp_path / "elsewhere", "status")[1]


def test_off_wants_a_name_and_a_reason(tmp_path: Path) -> None:
    assert run(tmp_path, "off")[0] == 2
    assert EgressSwitch(tmp_path).is_on()


def test_a_folder_that_cannot_be_made_is_a_plain_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be turned"):
        run(tmp_path / "file" / "data", "off", "--by", "a", "--why", "b")
