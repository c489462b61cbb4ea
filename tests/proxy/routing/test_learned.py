"""A learned model runs on plain numbers, says what scikit-learn says, and bad ones are refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from proxy.errors import SettingsError
from proxy.routing.curve import auroc
from proxy.routing.features import FEATURES, QUESTION_FEATURES, features_of, question_features
from proxy.routing.learned import read_model
from proxy.routing.rows import Flags, Floats
from proxy.routing.training import _booster, _tamed, out_of_fold, train
from tests.factories import a_body, a_draft, a_request

NAMES = ("a", "b")


def data(rows: int = 400) -> tuple[Floats, Flags]:
    random = np.random.default_rng(0)
    values = random.normal(size=(rows, 2))
    values[::7, 1] = np.nan
    return values, random.random(rows) < 1 / (1 + np.exp(-3 * values[:, 0]))


def a_model() -> dict[str, Any]:
    size = len(FEATURES)
    random = np.random.default_rng(0)
    model = train(FEATURES, random.normal(size=(60, size)), random.random(60) < 0.5)
    tree = {"feature": [0, 0, 0], "threshold": [0.0, 0.0, 0.0]}
    tree |= {"left": [1, -1, -1], "right": [2, -1, -1], "value": [0.0, -1.0, 1.0]}
    raw: dict[str, Any] = json.loads(json.dumps(asdict(model)))
    return raw | {"trees": [tree]}


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_learns_and_survives_json(kind: Any) -> None:
    values, correct = data()
    model = train(NAMES, values, correct, kind)
    told = np.array([model.probability(row) for row in values.tolist()])
    assert auroc(told, correct) > 0.85
    assert told.mean() == pytest.approx(correct.mean(), abs=0.03)
    assert json.loads(json.dumps(asdict(model)))["features"] == list(NAMES)


def test_one_row_that_is_out_of_all_bounds_does_not_make_the_others_alike() -> None:
    values, correct = data()
    values = np.vstack([values, [[-9999.0, 0.0], [-1e300, np.inf]]])
    correct = np.append(correct, [False, False])
    found = out_of_fold(NAMES, values, correct, "logistic")
    assert auroc(found, correct) > 0.85
    assert np.all((found > 0) & (found < 1))


def test_a_column_that_tells_of_a_few_rows_alone_is_left_as_it_is() -> None:
    random = np.random.default_rng(0)
    sparse, rare = np.zeros((2, 400))
    sparse[:24], rare[:5] = random.normal(size=24), 1.0
    values = np.column_stack([sparse, rare, np.full(400, np.nan)])
    assert np.array_equal(_tamed(values), values, equal_nan=True)


def test_trees_taken_apart_say_what_scikit_learn_says() -> None:
    values, correct = data()
    model = train(NAMES, values, correct, "boosting")
    filled = np.where(np.isfinite(values), values, np.array(model.means))
    rows = (filled - np.array(model.means)) / np.array(model.scales)
    theirs = _booster().fit(rows, correct).decision_function(rows)
    plain = replace(model, slope=1.0, offset=0.0)
    ours = [plain.probability(row) for row in values.tolist()]
    assert ours == pytest.approx(1 / (1 + np.exp(-theirs)), abs=1e-9)


def test_out_of_fold_predictions_know_nothing_of_noise() -> None:
    random = np.random.default_rng(1)
    values, noise = random.normal(size=(600, 2)), random.random(600) < 0.5
    assert abs(auroc(out_of_fold(NAMES, values, noise, "logistic"), noise) - 0.5) < 0.08


def test_a_draft_without_evidence_is_unknown_and_a_good_one_has_every_feature() -> None:
    model = read_model(a_model())
    assert model.score(a_request(), a_draft(logprobs=())) is None
    score = model.score(a_request(), a_draft())
    assert score is not None
    assert 0 < score < 1
    values = features_of(a_request(), a_draft())
    assert values is not None
    assert len(values) == len(FEATURES)


def test_features_of_the_question_are_numbers_of_its_form() -> None:
    told = question_features(a_request(a_body("Why is 12 > 7?")))
    assert dict(zip(QUESTION_FEATURES, told, strict=True)) == {
        "question_words": pytest.approx(np.log1p(5)),
        "question_digits": pytest.approx(np.log1p(3)),
        "question_asks_fact": 0.0,
        "question_asks_reason": 1.0,
        "question_has_code": 0.0,
        "question_turns": 1.0,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["a"]},
        {"weights": [1.0]},
        {"start": "x"},
        {"start": float("nan")},
        {"scales": [0.0] * len(FEATURES)},
        {"trees": [{"feature": [0], "threshold": [0], "left": [0], "right": [0], "value": [0]}]},
        {"trees": [{"feature": [99], "threshold": [0], "left": [1], "right": [1], "value": [0]}]},
        {"trees": [{"feature": []}]},
        {"trees": 7},
    ],
    ids=["names", "too few", "word", "nan", "no scale", "a circle", "far off", "columns", "none"],
)
def test_a_model_that_is_not_sound_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        read_model(a_model() | change)


def test_a_value_far_off_what_was_seen_does_not_decide_alone() -> None:
    values, correct = data()
    values[:, 1] = 7.0
    model = train(NAMES, values, correct)
    assert model.probability((2.0, 1e9)) > 0.9
    assert model.probability((2.0, -1e9)) == pytest.approx(model.probability((2.0, 7.0)))


@pytest.mark.parametrize("raw", [None, [], "x", b"\x80\x04K\x01."])
def test_what_is_no_model_is_refused(raw: object) -> None:
    with pytest.raises(SettingsError):
        read_model(raw)
