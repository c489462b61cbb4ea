"""What every artifact of routing has in common: a JSON file that says what it was made for.

Never a pickle, and never half of one. Its id is a digest of its contents, so that a change shows.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from proxy.errors import LocalBackendError, SettingsError
from proxy.local.model import is_ready, model_digest
from proxy.settings import Settings


class Artifact(Protocol):
    """An artifact: its id, and the local model that it was made for."""

    @property
    def id(self) -> str:
        """Its kind, and a digest of its contents."""
        ...

    @property
    def model(self) -> str:
        """The name of the local model."""
        ...

    @property
    def model_digest(self) -> str | None:
        """The digest of its weights; see `weights_digest`."""
        ...


def canonical(contents: Mapping[str, Any]) -> bytes:
    """``contents`` as one line of JSON with sorted members."""
    return json.dumps(contents, sort_keys=True, separators=(",", ":")).encode()


def write(path: Path, id_: str, contents: Mapping[str, Any]) -> None:
    """Write an artifact, whole or not at all; of two that write at once, the later one stays."""
    text = json.dumps({"id": id_, **contents}, indent=1, sort_keys=True) + "\n"
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path, kind: str) -> Any:
    """The JSON in the file of an artifact of this ``kind``.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise SettingsError(f"{path} is no {kind}: it cannot be read as JSON") from None


def refuse_if_changed(path: Path, raw: Mapping[str, Any], made: Artifact) -> None:
    """Hold the id in a file against what it holds.

    Raises:
        SettingsError: its contents are not those that its id names.
    """
    if raw.get("id") != made.id:
        raise SettingsError(f"{path} was changed after it was made: make it anew")


def refuse_if_of_another_model(made: Artifact, kind: str, settings: Settings) -> None:
    """Hold an artifact of this ``kind`` against the local model of ``settings``.

    Raises:
        SettingsError: it was made for another model, or for other weights.
    """
    if made.model != settings.local_model:
        raise SettingsError(
            f"the {kind} was made for the model {made.model}, "
            f"RINGFENCE_LOCAL_MODEL is {settings.local_model}"
        )
    if made.model_digest != weights_digest(settings):
        raise SettingsError(
            f"the {kind} was made for other weights, or for a model that is served elsewhere"
        )


def weights_digest(settings: Settings) -> str | None:
    """Digest of the embedded model's weights; None where there is none, or an endpoint answers."""
    if settings.local_base_url is not None or not is_ready(settings.model_dir):
        return None
    try:
        return model_digest(settings.model_dir)
    except LocalBackendError:
        return None
