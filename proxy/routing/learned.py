"""A learned estimator that runs on plain numbers: read from JSON, no scikit-learn, never a pickle.

`proxy.routing.training` makes one. A pickle would run whatever stands in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.errors import SettingsError
from proxy.routing.features import FEATURES, features_of
from proxy.types import Draft, Request

#: How many standard deviations from the mean a value may count for: what lies further off than
#: any row that the model was trained on must not decide alone.
MAX_DEVIATION: Final = 6.0


@dataclass(frozen=True, slots=True)
class Tree:
    """A regression tree as columns, one entry a node; a leaf has ``left`` -1.

    At an inner node a value at most ``threshold`` goes left.
    """

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def __call__(self, row: Sequence[float]) -> float:
        """The value of the leaf that ``row`` falls into."""
        node = 0
        while self.left[node] != -1:
            goes_left = row[self.feature[node]] <= self.threshold[node]
            node = self.left[node] if goes_left else self.right[node]
        return self.value[node]


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """The probability that a draft is right, from features of shape ``(num_features,)``.

    A missing feature counts as its mean. The sum of the linear part and the trees is a log-odds,
    which ``slope`` and ``offset`` calibrate (Platt 1999).
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    start: float
    trees: tuple[Tree, ...] = ()
    slope: float = 1.0
    offset: float = 0.0

    def probability(self, values: Sequence[float | None]) -> float:
        """The probability, in (0, 1), for ``values`` in the order of ``features``."""
        row = [
            0.0 if value is None or not math.isfinite(value) else _clip((value - mean) / scale)
            for value, mean, scale in zip(values, self.means, self.scales, strict=True)
        ]
        linear = math.fsum(w * x for w, x in zip(self.weights, row, strict=True))
        odds = self.start + linear + math.fsum(tree(row) for tree in self.trees)
        return _sigmoid(self.slope * odds + self.offset)

    def score(self, request: Request, draft: Draft) -> float | None:
        """The probability that ``draft`` is right; None where the server gave no evidence."""
        values = features_of(request, draft)
        return None if values is None else self.probability(values)


def read_model(raw: Any, features: Sequence[str] = FEATURES) -> LearnedModel:
    """The model of ``features`` in the JSON value ``raw``.

    Raises:
        SettingsError: it is none, or one for other features than ours.
    """
    try:
        trees = tuple(Tree(**{k: tuple(v) for k, v in tree.items()}) for tree in raw["trees"])
        model = LearnedModel(
            features=tuple(raw["features"]),
            means=tuple(raw["means"]),
            scales=tuple(raw["scales"]),
            weights=tuple(raw["weights"]),
            start=float(raw["start"]),
            trees=trees,
            slope=float(raw["slope"]),
            offset=float(raw["offset"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SettingsError("the calibration holds no learned model that can be read") from None
    if model.features != tuple(features) or not _is_sound(model):
        raise SettingsError("the learned model was made for other features: make it anew")
    return model


def _is_sound(model: LearnedModel) -> bool:
    """Whether every number can be used, and every walk through a tree ends."""
    size = len(model.features)
    columns = (model.means, model.scales, model.weights)
    numbers = [model.start, model.slope, model.offset, *(x for column in columns for x in column)]
    return (
        all(len(column) == size for column in columns)
        and all(isinstance(x, int | float) and math.isfinite(x) for x in numbers)
        and all(scale > 0 for scale in model.scales)
        and all(_ends(tree, size) for tree in model.trees)
    )


def _ends(tree: Tree, num_features: int) -> bool:
    """Whether children stand behind their parents, so that no walk goes round in a circle."""
    size = len(tree.value)
    columns = (tree.feature, tree.threshold, tree.left, tree.right)
    if not size or any(len(column) != size for column in columns):
        return False
    return all(
        (tree.left[n] == -1 and math.isfinite(tree.value[n]))
        or (
            n < tree.left[n] < size
            and n < tree.right[n] < size
            and 0 <= tree.feature[n] < num_features
        )
        for n in range(size)
    )


def _clip(deviation: float) -> float:
    return max(-MAX_DEVIATION, min(MAX_DEVIATION, deviation))


def _sigmoid(odds: float) -> float:
    if odds >= 0:
        return 1.0 / (1.0 + math.exp(-min(odds, 700.0)))
    grown = math.exp(max(odds, -700.0))
    return grown / (1.0 + grown)
