"""Orderings and what they are worth, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from proxy.routing.curve import auroc, curve, perfect_curve, random_curve, reach

LOCAL = np.array([True, False, True, False])
CLOUD = np.array([True, True, False, True])
BEST, WORST = np.array([0.5, 0.1, 0.9, 0.2]), np.array([0.5, 0.8, 0.1, 0.9])


def test_auroc_is_that_of_scikit_learn_ties_and_all() -> None:
    random = np.random.default_rng(0)
    score = np.round(random.random(500), 1)
    correct = random.random(500) < score
    assert auroc(score, correct) == pytest.approx(roc_auc_score(correct, score), abs=1e-12)
    assert np.isnan(auroc(score, np.ones(500, dtype=bool)))


def test_a_curve_runs_from_local_to_cloud_and_peaks_where_the_best_are_sent() -> None:
    told = curve(BEST, LOCAL, CLOUD)
    assert told.accuracy.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]
    assert told.at(0.375) == pytest.approx(0.875)
    assert told.area == pytest.approx((0.25 + 0.75 + 1.0 + 1.0 + 0.375) / 4)


def test_reach_is_one_for_the_best_ordering_nothing_for_none_and_less_for_the_worst() -> None:
    assert reach(BEST, LOCAL, CLOUD) == pytest.approx(1.0)
    assert reach(np.zeros(4), LOCAL, CLOUD) == pytest.approx(0.0)
    assert reach(WORST, LOCAL, CLOUD) < 0
    assert np.isnan(reach(BEST, LOCAL, LOCAL))


def test_ties_share_their_gain_so_that_the_order_of_rows_is_nothing() -> None:
    score = np.array([0.1, 0.1, 0.9, 0.9])
    there = curve(score, LOCAL, CLOUD)
    swapped = np.array([1, 0, 3, 2])
    assert curve(score, LOCAL[swapped], CLOUD[swapped]).accuracy == pytest.approx(there.accuracy)
    assert random_curve(LOCAL, CLOUD).accuracy == pytest.approx(np.linspace(0.5, 0.75, 5))
    assert perfect_curve(LOCAL, CLOUD).area >= there.area
