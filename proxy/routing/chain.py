"""The chain in force: several cloud models, each but the last with a threshold of its own.

An artifact that `ringfence evaluate --rungs` made. It is a calibration of the local model as well,
and takes the place of one. It names models and never destinations: where a request may go is the
decision's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from proxy.errors import SettingsError
from proxy.routing.calibration import (
    Calibration,
    is_number,
    load_artifact,
    load_calibration,
    refuse_if_unfit,
)
from proxy.routing.doubts import doubts_of
from proxy.routing.signals import SIGNALS, Signal
from proxy.routing.thrift import thrifty
from proxy.settings import Settings
from proxy.types import Confidence, Destination, Draft

FORMAT: Final = 1

#: More models than anyone has, and few enough for a request to try them all.
MAX_RUNGS: Final = 8

#: A threshold below every score that a model gives, where an estimator knows no least one.
_BELOW_ALL: Final = -1e9

#: How far above the greatest score a threshold lies that every score is below.
ABOVE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Calibration):
    """Which models are asked in turn, and below which score each is not believed.

    ``threshold``, ``expected_share`` and the like are those of the local model, as in every
    calibration. ``thresholds`` are those of ``clouds`` but the last, in the same order. ``ends``
    are the shares of the tested questions that ended at each model, the local one first, and
    ``expected_usd`` is what one of them cost on average.
    """

    KIND: ClassVar[str] = "chain of models"
    SETTING: ClassVar[str] = "RINGFENCE_RUNGS_FILE"

    clouds: tuple[str, ...]
    thresholds: tuple[float, ...]
    ends: tuple[float, ...]
    expected_usd: float
    format: int = FORMAT

    @property
    def id(self) -> str:
        """``rungs_`` and the first 28 hex digits of the SHA-256 of the canonical contents."""
        return f"rungs_{self.digest()[:28]}"

    def rungs(self, destinations: Sequence[Destination]) -> tuple[Rung, ...]:
        """The rungs that ``destinations`` have, in order; a model is asked at the first that does.

        The last of them answers for good, whatever its score is.
        """
        found = [
            (number, model, destination)
            for number, model in enumerate(self.clouds, 1)
            if (destination := next((d for d in destinations if model in d.models), None))
        ]
        held_to = (*self.thresholds, None)
        return tuple(
            Rung(*one, threshold=held_to[one[0] - 1] if place < len(found) else None)
            for place, one in enumerate(found, 1)
        )

    def in_words(self) -> str:
        """The cloud models in order, with the score below which each is left."""
        held_to = (*(f" (below {one:g})" for one in self.thresholds), "")
        return ", ".join(f"{model}{held}" for model, held in zip(self.clouds, held_to, strict=True))

    def confidence(self, draft: Draft, threshold: float, left: float) -> Confidence:
        """How far the answer of a cloud is to be trusted, where ``left`` of a budget is left."""
        signal = SIGNALS[self.estimator]
        told = Confidence(
            score=signal.of(draft),
            threshold=threshold,
            estimator=self.estimator,
            calibration_id=self.id,
            doubts=doubts_of(draft),
        )
        return thrifty(told, (signal.low, signal.high), left)


@dataclass(frozen=True, slots=True)
class Rung:
    """A cloud model of a chain, where a decision lets a request go.

    ``number`` counts the cloud models of the chain from 1; ``threshold`` None: no other is asked.
    """

    number: int
    model: str
    destination: Destination
    threshold: float | None = None


def load_chain(path: Path) -> Chain:
    """Read a chain; see `proxy.routing.calibration.load_artifact`."""
    return load_artifact(path, Chain, _more)


def calibration_in_force(settings: Settings) -> Calibration | None:
    """The calibration or the chain that ``settings`` name, fit for them; None: they name neither.

    Raises:
        SettingsError: they name both; see `load_artifact` and `refuse_if_unfit`.
    """
    plain, chained = settings.calibration_file, settings.rungs_file
    if plain is not None and chained is not None:
        raise SettingsError(
            "RINGFENCE_RUNGS_FILE and RINGFENCE_CALIBRATION_FILE are both set: keep one; "
            "a chain of models has the local model's threshold too"
        )
    made: Calibration | None = None
    if plain is not None:
        made = load_calibration(plain)
    if chained is not None:
        made = load_chain(chained)
    if made is not None:
        refuse_if_unfit(made, settings)
    return made


def refuse_unreachable(setting: str, models: Iterable[str], known: Collection[str]) -> None:
    """Hold the models of an artifact against those that destinations of the policy have.

    Raises:
        SettingsError: none has one of them; names the ``setting``.
    """
    if missing := missing_models(models, known):
        raise SettingsError(f"{setting}: no destination of the policy has {missing}")


def missing_models(models: Iterable[str], known: Collection[str]) -> str:
    """The ``models`` that are not among the ``known`` ones, in words; empty: none."""
    return ", ".join(model for model in models if model not in known)


def within_range(threshold: float, signal: Signal) -> float:
    """``threshold`` as a number that can be written: for always and never, one just out of reach.

    No score of ``signal`` is on the other side of it than of ``threshold``.
    """
    return min(max(threshold, signal.low, _BELOW_ALL), signal.high + ABOVE)


def _more(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a chain has beside what every calibration has."""
    clouds = tuple(raw["clouds"])
    numbers = {name: tuple(raw[name]) for name in ("thresholds", "ends")}
    if not all(isinstance(model, str) and model for model in clouds) or not clouds:
        raise ValueError("clouds")
    if len(set(clouds)) < len(clouds) or len(clouds) > MAX_RUNGS or raw["model"] in clouds:
        raise ValueError("clouds")
    if not all(is_number(one) for one in (*numbers["thresholds"], *numbers["ends"])):
        raise ValueError("numbers")
    if len(numbers["thresholds"]) != len(clouds) - 1 or len(numbers["ends"]) != len(clouds) + 1:
        raise ValueError("numbers")
    if raw["estimator"] not in SIGNALS or not is_number(raw["expected_usd"]):
        raise ValueError("estimator")
    return {"clouds": clouds, **numbers}
