"""The plan for a batch: which of its lines are worth a cloud model, within a sum of money.

An artifact that `ringfence evaluate --plan` made says how likely each model is right, given what
the local draft tells of itself. All lines of a batch are answered at home first; then the program
of `proxy.routing.planner` picks those that are asked again, and of whom. It never says that a
request may leave: that stays with its decision, made anew for every request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from proxy.errors import SettingsError
from proxy.holding import Held
from proxy.prices import Prices
from proxy.routing.artifact import (
    canonical,
    read,
    refuse_if_changed,
    refuse_if_of_another_model,
    weights_digest,
    write,
)
from proxy.routing.calibration import is_number
from proxy.routing.features import FEATURES
from proxy.routing.ladder import Ladder
from proxy.routing.learned import LearnedModel, read_model
from proxy.routing.planner import assign, learn
from proxy.settings import Settings

FORMAT: Final = 1

#: Longest time for the solver of a running proxy, in seconds; what it has by then is the plan.
_TIME_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Predictor:
    """How likely one model's answers are right, and what one costs beside its prompt.

    ``share`` is that of the right answers it was learned from; ``learned`` tells more of a single
    one, None where the data did not. ``rest_usd`` are US dollars.
    """

    name: str
    share: float
    rest_usd: float
    learned: LearnedModel | None = None

    def probability(self, features: Sequence[float | None] | None) -> float:
        """The probability, in [0, 1], that its answer is right; ``features`` None: its share."""
        if self.learned is None or features is None:
            return self.share
        by_name = dict(zip(FEATURES, features, strict=True))
        return self.learned.probability([by_name[name] for name in self.learned.features])


@dataclass(frozen=True, slots=True)
class Plan:
    """What plans are made by; the first of ``predictors`` is the local model's."""

    model: str
    model_digest: str | None
    num_rows: int
    data_digest: str
    made_at: str
    predictors: tuple[Predictor, ...]
    format: int = FORMAT

    @property
    def id(self) -> str:
        """``plan_`` and the first 28 hex digits of the SHA-256 of the contents."""
        return f"plan_{hashlib.sha256(canonical(asdict(self))).hexdigest()[:28]}"

    @property
    def clouds(self) -> tuple[str, ...]:
        """The cloud models it knows."""
        return tuple(one.name for one in self.predictors[1:])

    def save(self, path: Path) -> None:
        """Write the artifact, whole or not at all."""
        write(path, self.id, asdict(self))


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans batches: by ``plan``, at ``prices``, for ``budget_usd`` a batch."""

    plan: Plan
    prices: Prices
    budget_usd: float

    def models(self, held: Sequence[Held]) -> list[str | None]:
        """For each line the cloud model to ask; None: its answer from home stands.

        A model that a line may not reach, or whose price there is not known, is none for it.
        """
        if not held:
            return []
        home, *clouds = self.plan.predictors
        probability = np.zeros((len(held), 1 + len(clouds)))
        cost_usd = np.zeros_like(probability)
        for row, one in enumerate(held):
            probability[row, 0] = home.probability(one.features) if one.is_answered else 0.0
            where = dict(one.reach)
            for column, cloud in enumerate(clouds, 1):
                price = self.prices.find(where.get(cloud.name, ""), cloud.name)
                if price is None:
                    probability[row, column] = -1.0
                    continue
                probability[row, column] = cloud.probability(one.features)
                prompt = float(price.input) * one.prompt_tokens / 1000
                cost_usd[row, column] = prompt + cloud.rest_usd * one.num_answers
        at = assign(probability, cost_usd, self.budget_usd, _TIME_LIMIT_S)
        return [None if place == 0 else clouds[place - 1].name for place in at.tolist()]


def plan_of(settings: Settings, known: Ladder, data_digest: str) -> Plan:
    """The artifact of what ``known`` tells; its models' names are those that will be asked."""
    drafts = known.features[:, : len(FEATURES)]
    learned = learn(drafts, known.right, FEATURES)
    rest = (known.cost_usd - known.prompt_usd).mean(axis=0)
    return Plan(
        model=settings.local_model,
        model_digest=weights_digest(settings),
        num_rows=len(known),
        data_digest=data_digest,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        predictors=tuple(
            Predictor(name, float(known.right[:, model].mean()), float(rest[model]), learned[model])
            for model, name in enumerate(known.names)
        ),
    )


def load_plan(path: Path) -> Plan:
    """Read an artifact.

    Raises:
        SettingsError: it cannot be read, is of another format, or its contents are not those that
            its id names.
    """
    raw = read(path, "plan")
    made = _of(raw)
    if made is None:
        raise SettingsError(f"{path} is no plan of format {FORMAT}: make it anew")
    refuse_if_changed(path, raw, made)
    return made


def planner_in_force(settings: Settings, prices: Prices) -> Planner | None:
    """What plans batches under ``settings``; None: nothing does.

    Raises:
        SettingsError: the plan was made for another model or other weights, or something that it
            needs is missing.
    """
    if settings.plan_file is None:
        return None
    if settings.batch_budget_usd is None or settings.prices_file is None:
        raise SettingsError(
            "RINGFENCE_PLAN_FILE needs RINGFENCE_BATCH_BUDGET_USD and RINGFENCE_PRICES_FILE"
        )
    if find_spec("scipy") is None:
        raise SettingsError('RINGFENCE_PLAN_FILE needs scipy: pip install "ringfence[calibrate]"')
    plan = load_plan(settings.plan_file)
    refuse_if_of_another_model(plan, "plan", settings)
    return Planner(plan, prices, settings.batch_budget_usd)


def _of(raw: Any) -> Plan | None:
    """The artifact in ``raw``; None where a member is missing, unknown or of another kind."""
    names = {field.name for field in fields(Plan)} | {"id"}
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or set(raw) != names:
        return None
    try:
        predictors = tuple(_predictor(one) for one in raw["predictors"])
        if datetime.fromisoformat(raw["made_at"]).tzinfo is None or len(predictors) < 2:
            return None
        kept = {name: raw[name] for name in names - {"id", "predictors"}}
        if len({one.name for one in predictors}) < len(predictors):
            return None
        return Plan(**kept, predictors=predictors)
    except (KeyError, TypeError, ValueError, SettingsError):
        return None


def _predictor(raw: Mapping[str, Any]) -> Predictor:
    if set(raw) != {"name", "share", "rest_usd", "learned"} or not isinstance(raw["name"], str):
        raise ValueError("predictor")
    if not (is_number(raw["share"]) and is_number(raw["rest_usd"]) and raw["rest_usd"] >= 0):
        raise ValueError("predictor")
    learned = None
    if raw["learned"] is not None:
        told = tuple(raw["learned"]["features"])
        if len(set(told)) < len(told) or not set(told) <= set(FEATURES):
            raise ValueError("features")
        learned = read_model(raw["learned"], told)
    return Predictor(raw["name"], float(raw["share"]), float(raw["rest_usd"]), learned)
