"""`ringfence finetune`: from pairs and a model to a folder that the local tier serves.

What was made for the old model (a calibration above all) does not fit the new one: the manifest
and the digest of the folder are new, and the proxy refuses what names another digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__
from proxy.errors import SettingsError
from proxy.inspection import offline
from proxy.learning.pairs import read_pairs
from proxy.learning.recipe import Recipe
from proxy.local.model import FINE_TUNED, alone, model_digest, write_manifest

if TYPE_CHECKING:
    from proxy.learning.tuning import Tuner

#: A run that is interrupted loses at most so much, in seconds.
CHECKPOINT_S: Final = 60.0

#: Hears a stage, how much of it is done, and how much it is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What to train: ``model`` holds the old one, ``out`` will hold the new one.

    ``template`` is a file with the chat template of the new one; None keeps the old one's.
    """

    data: Path
    model: Path
    out: Path
    recipe: Recipe
    template: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it: ``loss`` is the mean of the last epoch, in nats a token."""

    num_pairs: int
    num_too_long: int
    num_steps: int
    loss: float
    digest: str


def finetune(job: Job, progress: Progress = lambda *_: None) -> Result:
    """Train, or go on where an interrupted run of the same job stopped, and write the folder.

    The folder is there whole or not at all; what an interrupted run keeps is beside it, and holds
    weights, never a word.

    Raises:
        SettingsError: the data or the template cannot be read, or ``out`` holds something.
        LocalBackendError: the model cannot be loaded, or not be trained here.
    """
    if job.out.exists() and not (job.out.is_dir() and not any(job.out.iterdir())):
        raise SettingsError(f"{job.out} holds something already: name another folder")
    pairs = read_pairs(job.data)
    base = model_digest(job.model)
    made_for = _name_of(job, base)
    template = _read_template(job.template)
    threads = _num_threads()
    offline.cut()  # which makes one thread the default
    from proxy.learning.tuning import Tuner

    job.out.parent.mkdir(parents=True, exist_ok=True)
    kept = job.out.with_name(job.out.name + ".progress")
    with alone(job.out.with_name(f".{job.out.name}.lock")):
        tuner = Tuner(job.model, job.recipe, template, threads)
        too_long = tuner.read(pairs, lambda done: progress("below", done, len(pairs)))
        loss = _train(tuner, Checkpoint(kept, made_for), progress)
        result = Result(len(pairs) - too_long, too_long, tuner.num_steps, loss, "")
        digest = _publish(job, tuner, _manifest(job, base, result))
    kept.unlink(missing_ok=True)
    return Result(result.num_pairs, too_long, result.num_steps, loss, digest)


class Checkpoint:
    """The state of a run, in one file; another run's is not taken."""

    def __init__(self, path: Path, made_for: str) -> None:
        self._path = path
        self._made_for = made_for
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state of this same run, if there is one; a file that is torn counts as none."""
        import torch

        try:
            state = torch.load(self._path, weights_only=True)
        except FileNotFoundError:
            return None
        except Exception:  # noqa: BLE001  (whatever is wrong with it, the run starts anew)
            return None
        same = isinstance(state, dict) and state.get("for") == self._made_for
        return state if same else None

    def keep(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, once `CHECKPOINT_S` have gone by since the last time."""
        import torch

        if time.monotonic() - self._written < CHECKPOINT_S:
            return
        beside = self._path.with_name(self._path.name + ".new")
        torch.save({"for": self._made_for, **state()}, beside)
        beside.replace(self._path)
        self._written = time.monotonic()


def _train(tuner: Tuner, checkpoint: Checkpoint, progress: Progress) -> float:
    """Every step that is left; the mean loss of the last epoch."""
    losses: list[float] = []
    state = checkpoint.load()
    if state is not None:
        tuner.restore(state)
        losses = [float(loss) for loss in state["losses"]]
    while tuner.step < tuner.num_steps:
        losses.append(tuner.train_step())
        checkpoint.keep(lambda: {**tuner.state(), "losses": losses})
        progress("training", tuner.step, tuner.num_steps)
    last = losses[-tuner.num_batches :]
    return sum(last) / len(last)


def _publish(job: Job, tuner: Tuner, manifest: dict[str, object]) -> str:
    """Write the folder, and move it to its place; its digest."""
    with tempfile.TemporaryDirectory(dir=job.out.parent, prefix=".finetune-") as name:
        ready = Path(name) / "ready"
        tuner.save(ready)
        write_manifest(ready, manifest)
        digest = model_digest(ready)
        if job.out.exists():
            job.out.rmdir()
        shutil.move(ready, job.out)
    return digest


def _manifest(job: Job, base: str, result: Result) -> dict[str, object]:
    return {
        "source": FINE_TUNED,
        "base_digest": base,
        "data_digest": _digest_of(job.data),
        "num_pairs": result.num_pairs,
        "num_steps": result.num_steps,
        "last_loss": round(result.loss, 4),
        "recipe": asdict(job.recipe),
        "chat_template": "given" if job.template else "of the base",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ringfence": __version__,
    }


def _name_of(job: Job, base: str) -> str:
    """What a checkpoint must have been made for, to be gone on with."""
    template = _digest_of(job.template) if job.template else "own"
    return json.dumps([base, _digest_of(job.data), template, asdict(job.recipe)], sort_keys=True)


def _num_threads() -> int:
    """Threads to compute with: as many as OMP_NUM_THREADS says, else all that we may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else len(os.sched_getaffinity(0))


def _read_template(path: Path | None) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{path} cannot be read") from None


def _digest_of(path: Path) -> str:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        raise SettingsError(f"{path} cannot be read") from None
