"""A chain fits what it was made for, and names models; where they are is the decision's to say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import SettingsError
from proxy.routing.calibration import load_calibration
from proxy.routing.catalog import build_estimator
from proxy.routing.chain import (
    Chain,
    calibration_in_force,
    load_chain,
    refuse_unreachable,
    within_range,
)
from proxy.routing.signals import SIGNALS, Signal
from proxy.settings import Settings
from proxy.types import Destination
from tests.factories import a_destination, a_draft, a_request
from tests.fakes import FakeLocal
from tests.proxy.routing.tables import a_chain

MADE = a_chain("cheap", "mid", "dear")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    MADE.save(tmp_path / "rungs.json")
    return tmp_path / "rungs.json"


def settings(path: Path, **more: object) -> Settings:
    named = {"local_base_url": "http://127.0.0.1:9/v1", "local_model": "local"}
    return Settings(rungs_file=path, **{**named, **more})  # type: ignore[arg-type]


def at(name: str, *models: str) -> Destination:
    whole = a_destination()
    return Destination(name, "p", whole.base_url, models, "eu", whole.transfer)


def test_a_chain_is_read_as_it_was_written(artifact: Path) -> None:
    assert load_chain(artifact) == MADE
    assert calibration_in_force(settings(artifact)) == MADE
    assert MADE.id == f"rungs_{MADE.digest()[:28]}"


async def test_it_is_the_local_models_calibration_too(artifact: Path) -> None:
    estimator = build_estimator("mean_logprob", None, FakeLocal(), load_chain(artifact))
    told = await estimator.estimate(a_request(), a_draft(), may_ask=True)
    assert (told.threshold, told.calibration_id) == (-0.5, MADE.id)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"estimator": "min"}, "chain of models was made for mean_logprob"),
        ({"local_model": "other"}, "chain of models was made for the model local"),
        ({"local_base_url": None, "model_dir": Path("none")}, None),
        ({"confidence_threshold": -0.5}, "RINGFENCE_RUNGS_FILE are both set"),
        ({"calibration_file": Path("c.json")}, "RINGFENCE_CALIBRATION_FILE are both set"),
    ],
    ids=str,
)
def test_a_chain_made_for_something_else_is_refused(
    artifact: Path, more: dict[str, object], named: str | None
) -> None:
    here = settings(artifact).model_copy(update=more)
    if named is None:  # a model of nobody's has no digest, as an endpoint's has none
        assert calibration_in_force(here) == MADE
        return
    with pytest.raises(SettingsError, match=named):
        calibration_in_force(here)


def test_a_chain_of_other_weights_is_refused(tmp_path: Path) -> None:
    a_chain("cheap", "dear", model_digest="sha256:other").save(tmp_path / "c.json")
    with pytest.raises(SettingsError, match="chain of models was made for other weights"):
        calibration_in_force(settings(tmp_path / "c.json"))


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": -9.0},
        {"thresholds": [-9.0, -0.5]},
        {"thresholds": [-0.5]},
        {"thresholds": [-0.5, "low"]},
        {"thresholds": None},
        {"clouds": ["dear", "mid", "cheap"]},
        {"clouds": []},
        {"clouds": ["cheap", "cheap", "dear"]},
        {"clouds": ["cheap", "local", "dear"]},
        {"clouds": ["cheap", 1, "dear"]},
        {"clouds": [f"m{n}" for n in range(9)], "thresholds": [-0.5] * 8},
        {"ends": [1.0]},
        {"expected_usd": None},
        {"estimator": "p_true"},
        {"format": 2},
        {"more": 1},
    ],
    ids=str,
)
def test_a_chain_that_was_changed_is_refused(artifact: Path, change: dict[str, object]) -> None:
    artifact.write_text(json.dumps(json.loads(artifact.read_text()) | change))
    with pytest.raises(SettingsError, match="make it anew"):
        load_chain(artifact)


@pytest.mark.parametrize(
    "change",
    [
        {"clouds": ("cheap", "local", "dear")},
        {"thresholds": (-0.5,)},
        {"thresholds": (-0.5, math.inf)},
        {"estimator": "learned"},
    ],
    ids=str,
)
def test_a_chain_that_makes_no_sense_is_none_whatever_its_id(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    a_chain("cheap", "mid", "dear", **change).save(tmp_path / "c.json")
    with pytest.raises(SettingsError, match="no chain of models"):
        load_chain(tmp_path / "c.json")


def test_a_chain_is_no_calibration_nor_the_reverse(artifact: Path) -> None:
    with pytest.raises(SettingsError, match="no calibration"):
        load_calibration(artifact)


def test_what_no_destination_has_is_named() -> None:
    refuse_unreachable("SETTING", MADE.clouds, {"cheap", "mid", "dear", "more"})
    with pytest.raises(SettingsError, match="SETTING: no destination of the policy has mid, dear"):
        refuse_unreachable("SETTING", MADE.clouds, {"cheap"})


def test_the_rungs_are_those_of_the_destinations_and_the_last_is_held_to_nothing() -> None:
    eu, us = at("eu", "cheap", "dear"), at("us", "dear", "mid")
    chain = a_chain("cheap", "mid", "dear", thresholds=(-0.1, -0.2))
    told = [(r.number, r.model, r.destination.id, r.threshold) for r in chain.rungs((eu, us))]
    assert told == [(1, "cheap", "eu", -0.1), (2, "mid", "us", -0.2), (3, "dear", "eu", None)]
    told = [(r.number, r.model, r.destination.id, r.threshold) for r in chain.rungs((us,))]
    assert told == [(2, "mid", "us", -0.2), (3, "dear", "us", None)]
    (only,) = chain.rungs((at("eu", "cheap"),))
    assert (only.number, only.threshold) == (1, None)
    assert chain.rungs((at("eu", "other"),)) == ()
    assert chain.rungs(()) == ()


@pytest.mark.parametrize("signal", SIGNALS.values(), ids=lambda signal: signal.name)
async def test_always_and_never_are_numbers_that_no_score_is_beyond(signal: Signal) -> None:
    always, never = within_range(math.inf, signal), within_range(-math.inf, signal)
    assert signal.high < always < math.inf
    assert never == max(signal.low, -1e9)
    assert within_range(signal.default_threshold, signal) == signal.default_threshold
    chain = a_chain("cheap", estimator=signal.name, threshold=always)
    estimator = build_estimator(signal.name, None, FakeLocal(), chain)
    told = await estimator.estimate(a_request(), a_draft(), may_ask=True)
    assert told.score is None or told.is_low


def test_the_words_of_a_chain_name_every_model(artifact: Path) -> None:
    made: Chain = load_chain(artifact)
    assert made.in_words() == "cheap (below -0.5), mid (below -0.5), dear"
