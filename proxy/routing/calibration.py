"""The calibration artifact: a threshold, what it was made for, and what it promises.

A JSON file, never a pickle. It fits one model and one estimator, and is refused for any other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from proxy import __version__
from proxy.errors import SettingsError
from proxy.routing.artifact import (
    canonical,
    read,
    refuse_if_changed,
    refuse_if_of_another_model,
    write,
)
from proxy.settings import Settings

FORMAT: Final = 3

#: How the question was put to the model; a template of another form is another calibration.
PROMPT_FORM: Final = "chat: one user message"

#: Cloud shares at which an artifact keeps the accuracy.
CURVE_SHARES: Final = tuple(step / 20 for step in range(21))

#: Source: our choice. Models, templates and traffic move; a quarter is a common review cycle.
MAX_AGE_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was calibrated, on what, and with which result.

    ``threshold`` keeps ``goal`` with probability at least ``1 - delta`` over the draw of the
    ``num_rows`` rows, whose file has the digest ``data_digest``. ``curve`` are pairs (cloud share,
    accuracy) in [0, 1] on those rows; ``expected_share`` is the share sent at ``threshold``.
    ``spread_bounds`` and ``spread_shares`` tell how the scores spread, for `proxy.routing.drift`.
    ``learned`` is the model of the learned estimator, as plain numbers; ``foresight`` is what the
    pre-router goes by (`proxy.routing.prerouter.Foresight`), where it was asked for; likewise
    ``commitment`` for early commit (`proxy.routing.committing.Commitment`), which is left out of
    the file where there is none, so that older files are what they were.
    """

    KIND: ClassVar[str] = "calibration"
    SETTING: ClassVar[str] = "RINGFENCE_CALIBRATION_FILE"

    model: str
    model_digest: str | None
    prompt_form: str
    estimator: str
    threshold: float
    goal: str
    bound: float
    delta: float
    num_rows: int
    data_digest: str
    expected_share: float
    expected_accuracy: float
    curve: tuple[tuple[float, float], ...]
    made_at: str
    spread_bounds: tuple[float, ...]
    spread_shares: tuple[float, ...]
    learned: Mapping[str, Any] | None = None
    foresight: Mapping[str, Any] | None = None
    commitment: Mapping[str, Any] | None = None
    ringfence: str = __version__
    format: int = FORMAT

    @property
    def id(self) -> str:
        """``cal_`` and the first 16 hex digits of the SHA-256 of the canonical contents."""
        return f"cal_{self.digest()[:16]}"

    def digest(self) -> str:
        """SHA-256 of the canonical contents, in hex."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def canonical(self) -> bytes:
        """The contents as one line of JSON with sorted members."""
        return canonical(self.contents())

    def contents(self) -> dict[str, Any]:
        """The members, as JSON has them."""
        told = asdict(self)
        if self.commitment is None:
            del told["commitment"]
        return told

    def age_days(self, now: datetime) -> float:
        """Age at ``now``, in days."""
        return (now - datetime.fromisoformat(self.made_at)).total_seconds() / 86_400

    def save(self, path: Path) -> None:
        """Write the artifact, whole or not at all."""
        write(path, self.id, self.contents())


Made = TypeVar("Made", bound=Calibration)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration of one threshold; see `load_artifact`."""
    return load_artifact(path, Calibration, lambda _: {})


def load_artifact(
    path: Path, made_as: type[Made], more: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Made:
    """Read an artifact.

    Args:
        path: its file.
        made_as: what it should be.
        more: reads the members that a plain calibration has not; may raise KeyError, TypeError or
            ValueError.

    Raises:
        SettingsError: it cannot be read, is of another format, or its contents are not those that
            its id names.
    """
    raw = read(path, made_as.KIND)
    made = _of(raw, made_as, more)
    if made is None:
        form = next(field.default for field in fields(made_as) if field.name == "format")
        raise SettingsError(f"{path} is no {made_as.KIND} of format {form}: make it anew")
    refuse_if_changed(path, raw, made)
    return made


def refuse_if_unfit(calibration: Calibration, settings: Settings) -> None:
    """Hold an artifact against the settings.

    Raises:
        SettingsError: it was made for another estimator, model or weights, or a threshold is set
            beside it.
    """
    kind = calibration.KIND
    if settings.confidence_threshold is not None:
        raise SettingsError(
            f"RINGFENCE_CONFIDENCE_THRESHOLD and {calibration.SETTING} are both set: keep one"
        )
    if calibration.estimator != settings.estimator:
        raise SettingsError(
            f"the {kind} was made for {calibration.estimator}, "
            f"RINGFENCE_ESTIMATOR is {settings.estimator}"
        )
    if calibration.prompt_form != PROMPT_FORM:
        raise SettingsError(f"the {kind} was made for another form of the prompt: make it anew")
    refuse_if_of_another_model(calibration, kind, settings)


def is_old(calibration: Calibration) -> bool:
    """Whether it should be made anew by now."""
    return calibration.age_days(datetime.now(UTC)) > MAX_AGE_DAYS


def _of(
    raw: Any, made_as: type[Made], more: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Made | None:
    """The artifact in ``raw``; None where a member is missing, unknown or of another kind."""
    form = {field.name: field.default for field in fields(made_as)}
    if not isinstance(raw, dict) or raw.get("format") != form["format"]:
        return None
    if {"commitment", *raw} != {*form, "id"}:
        return None
    numbers = ("threshold", "bound", "delta", "expected_share", "expected_accuracy", "num_rows")
    if not all(is_number(raw[name]) for name in numbers):
        return None
    try:
        curve = tuple((float(share), float(accuracy)) for share, accuracy in raw["curve"])
        if datetime.fromisoformat(raw["made_at"]).tzinfo is None:
            return None
        bounds = tuple(float(bound) for bound in raw["spread_bounds"])
        shares = tuple(float(share) for share in raw["spread_shares"])
        if len(shares) != len(bounds) + 2 or list(bounds) != sorted(bounds):
            return None
        lists: dict[str, Any] = {"curve": curve, "spread_bounds": bounds, "spread_shares": shares}
        lists |= more(raw)
        plain = form.keys() & raw.keys() - lists.keys()
        return made_as(**{name: raw[name] for name in plain}, **lists)
    except (KeyError, TypeError, ValueError):
        return None


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number of JSON."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(float(value))  # type: ignore[arg-type]
