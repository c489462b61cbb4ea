"""An artifact fits what it was made for, and nothing else; what is not sound is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.routing.artifact import weights_digest
from proxy.routing.calibration import (
    Calibration,
    is_old,
    load_calibration,
)
from proxy.routing.catalog import build_estimator
from proxy.routing.chain import calibration_in_force
from proxy.settings import Settings
from tests.factories import a_draft, a_request
from tests.fakes import FakeLocal
from tests.proxy.learning.tiny import make_model

MADE = Calibration(
    model="home",
    model_digest=None,
    prompt_form="chat: one user message",
    estimator="mean_logprob",
    threshold=-0.25,
    goal="within 1% of cloud",
    bound=0.01,
    delta=0.05,
    num_rows=1000,
    data_digest="sha256:" + "0" * 64,
    expected_share=0.3,
    expected_accuracy=0.9,
    curve=((0.0, 0.7), (1.0, 0.95)),
    made_at=datetime.now(UTC).isoformat(),
    spread_bounds=(-0.5,),
    spread_shares=(0.5, 0.4, 0.1),
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    MADE.save(tmp_path / "calibration.json")
    return tmp_path / "calibration.json"


def settings(path: Path, **more: object) -> Settings:
    """Of a proxy whose model an endpoint serves, unless ``more`` says otherwise."""
    named = {"local_base_url": "http://127.0.0.1:9/v1", "local_model": "home"}
    return Settings(calibration_file=path, **{**named, **more})  # type: ignore[arg-type]


def test_an_artifact_is_read_as_it_was_written(artifact: Path) -> None:
    assert load_calibration(artifact) == MADE
    assert calibration_in_force(settings(artifact)) == MADE
    assert calibration_in_force(Settings()) is None


async def test_its_threshold_is_in_force_under_its_name(artifact: Path) -> None:
    estimator = build_estimator("mean_logprob", None, FakeLocal(), load_calibration(artifact))
    confidence = await estimator.estimate(a_request(), a_draft(), may_ask=True)
    assert (confidence.threshold, confidence.calibration_id) == (-0.25, MADE.id)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"estimator": "min"}, "made for mean_logprob"),
        ({"local_model": "other"}, "made for the model home"),
        ({"confidence_threshold": -0.5}, "both set"),
    ],
)
def test_an_artifact_made_for_something_else_is_refused(
    artifact: Path, more: dict[str, object], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        calibration_in_force(settings(artifact).model_copy(update=more))


def test_an_artifact_for_another_form_of_the_prompt_is_refused(tmp_path: Path) -> None:
    replace(MADE, prompt_form="completion: the bare text").save(tmp_path / "c.json")
    with pytest.raises(SettingsError, match="another form of the prompt"):
        calibration_in_force(settings(tmp_path / "c.json"))


def test_of_two_that_write_one_artifact_at_once_each_writes_it_whole(tmp_path: Path) -> None:
    path, made = tmp_path / "c.json", [replace(MADE, num_rows=n) for n in range(8)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda one: [one.save(path) for _ in range(25)], made))
    assert load_calibration(path) in made
    assert [one.name for one in tmp_path.iterdir()] == ["c.json"]


def test_an_artifact_of_other_weights_is_refused(tmp_path: Path) -> None:
    replace(MADE, model_digest="sha256:other").save(tmp_path / "c.json")
    with pytest.raises(SettingsError, match="other weights"):
        calibration_in_force(settings(tmp_path / "c.json", local_base_url=None, model_dir=tmp_path))


def test_an_artifact_of_an_endpoint_is_none_of_the_embedded_model_nor_the_reverse(
    artifact: Path, tmp_path: Path
) -> None:
    own = make_model(tmp_path / "own")
    with pytest.raises(SettingsError, match="served elsewhere"):
        calibration_in_force(settings(artifact, local_base_url=None, model_dir=own))
    embedded = settings(tmp_path / "c.json", local_base_url=None, model_dir=own)
    replace(MADE, model_digest=weights_digest(embedded)).save(tmp_path / "c.json")
    assert calibration_in_force(embedded) is not None
    with pytest.raises(SettingsError, match="served elsewhere"):
        calibration_in_force(settings(tmp_path / "c.json", model_dir=own))


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": -9.0},
        {"threshold": "low"},
        {"threshold": True},
        {"num_rows": "many"},
        {"format": 1},
        {"curve": [[0.1]]},
        {"made_at": "2026-01-01"},
        {"made_at": "never"},
        {"more": 1},
    ],
    ids=str,
)
def test_an_artifact_that_was_changed_is_refused(artifact: Path, change: dict[str, object]) -> None:
    artifact.write_text(json.dumps(json.loads(artifact.read_text()) | change))
    with pytest.raises(SettingsError):
        load_calibration(artifact)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "not json", "\x80\x04K\x01.", "[" * 99_999], ids=lambda t: t[:9]
)
def test_what_is_no_artifact_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError):
        load_calibration(tmp_path / "c.json")


def test_it_grows_old() -> None:
    assert not is_old(MADE)
    then = datetime.now(UTC) - timedelta(days=91)
    assert is_old(replace(MADE, made_at=then.isoformat()))
