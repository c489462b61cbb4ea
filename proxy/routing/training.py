"""Trains the learned estimator with scikit-learn, and takes the result apart into plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from proxy.routing.learned import MAX_DEVIATION, LearnedModel, Tree
from proxy.routing.rows import Flags, Floats

Kind = Literal["logistic", "ridge", "boosting"]

#: Fixed, so that the same rows give the same model.
_SEED = 0
_NUM_TREES, _DEPTH, _RATE = 100, 2, 0.05

#: Parts of the rows that take turns at being predicted by a model of the others.
NUM_FOLDS = 5

#: Rows that tell nothing of what is out of all bounds.
_FEW = 20

#: Inverse strengths of regularization to choose from; with hundreds of features the choice matters.
_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


def train(
    names: Sequence[str], values: Floats, correct: Flags, kind: Kind = "logistic"
) -> LearnedModel:
    """A model of "the draft is right" from ``values``, shape ``(num_rows, num_features)``.

    NaN is a missing value. "ridge" is logistic with as much regularization as cross-validation
    asks for. Boosting is calibrated on predictions of folds it was not trained on.
    """
    values = _tamed(values)
    means = _finite_means(values)
    filled = np.where(np.isfinite(values), values, means)
    spread = filled.std(axis=0)
    scales = np.where(spread > 1e-9, spread, 1.0)  # what never varied gets no weight
    rows = np.clip((filled - means) / scales, -MAX_DEVIATION, MAX_DEVIATION)
    weights, start = np.zeros(rows.shape[1]), 0.0
    trees: tuple[Tree, ...] = ()
    slope, offset = 1.0, 0.0
    if kind == "logistic":
        weights, start = _logistic(rows, correct)
    elif kind == "ridge":
        weights, start = _logistic(rows, correct, _strength(rows, correct))
    else:
        start, trees = _boosted(rows, correct)
        (slope,), offset = _platt(rows, correct)
    return LearnedModel(
        features=tuple(names),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(float(weight) for weight in weights),
        start=start,
        trees=trees,
        slope=slope,
        offset=offset,
    )


def out_of_fold(
    names: Sequence[str], values: Floats, correct: Flags, kind: Kind, num_folds: int = NUM_FOLDS
) -> Floats:
    """For each row, the probability by a model that never saw it; shape ``(num_rows,)``."""
    from sklearn.model_selection import StratifiedKFold

    found = np.zeros(len(values))
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=_SEED)
    for seen, unseen in folds.split(values, correct):
        model = train(names, values[seen], correct[seen], kind)
        found[unseen] = [model.probability(row) for row in values[unseen].tolist()]
    return found


def _tamed(values: Floats) -> Floats:
    """``values`` with those far outside the bulk of their column drawn near.

    A single -9999, which servers write for "impossible", would else be the scale of its column, on
    which all other rows are alike. The bulk is what differs from the median, so that a column which
    says something of a few rows alone is left as it is.
    """
    there = np.isfinite(values)
    known = np.where(there, values, np.nan)
    known[:, ~there.any(axis=0)] = 0.0
    tells = there & (values != np.nanmedian(known, axis=0))
    few = tells.sum(axis=0) < _FEW
    bulk = np.where(tells | few, known, np.nan)
    low, high = np.nanquantile(bulk, (0.05, 0.95), axis=0)
    room = np.where(~few & (high > low), MAX_DEVIATION * (high - low), np.inf)
    return np.asarray(np.where(there, np.clip(values, low - room, high + room), values))


def _finite_means(values: Floats) -> Floats:
    """The mean of each column over the values that are there; 0 where none is."""
    there = np.isfinite(values)
    sums = np.where(there, values, 0.0).sum(axis=0)
    return np.asarray(sums / np.maximum(there.sum(axis=0), 1), dtype=np.float64)


def _strength(rows: Floats, correct: Flags) -> float:
    """The inverse strength with the best log-likelihood over folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(5, shuffle=True, random_state=_SEED)
    likely = [
        cross_val_score(
            LogisticRegression(C=strength, max_iter=2000),
            *(rows, correct),
            cv=folds,
            scoring="neg_log_loss",
        ).mean()
        for strength in _STRENGTHS
    ]
    return _STRENGTHS[int(np.argmax(likely))]


def _logistic(rows: Floats, correct: Flags, strength: float = 1.0) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=strength, max_iter=2000).fit(rows, correct)
    return np.asarray(fitted.coef_[0]), float(fitted.intercept_[0])


def _booster() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(
        n_estimators=_NUM_TREES,
        max_depth=_DEPTH,
        learning_rate=_RATE,
        subsample=0.7,
        min_samples_leaf=20,
        random_state=_SEED,
    )


def _boosted(rows: Floats, correct: Flags) -> tuple[float, tuple[Tree, ...]]:
    fitted = _booster().fit(rows, correct)
    share = float(np.clip(correct.mean(), 1e-6, 1 - 1e-6))
    return float(np.log(share / (1 - share))), tuple(
        _plain(stage[0].tree_) for stage in fitted.estimators_
    )


def _platt(rows: Floats, correct: Flags) -> tuple[NDArray[np.float64], float]:
    """Slope and offset of the log-odds, from predictions out of fold. Source: Platt 1999."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=_SEED)  # rows may come set by set
    odds = cross_val_predict(_booster(), rows, correct, cv=folds, method="decision_function")
    return _logistic(np.asarray(odds).reshape(-1, 1), correct)


def _plain(tree: Any) -> Tree:
    """scikit-learn's tree as columns."""
    return Tree(
        feature=tuple(max(int(one), 0) for one in tree.feature),
        threshold=tuple(tree.threshold.tolist()),
        left=tuple(tree.children_left.tolist()),
        right=tuple(tree.children_right.tolist()),
        value=tuple((_RATE * tree.value[:, 0, 0]).tolist()),
    )
