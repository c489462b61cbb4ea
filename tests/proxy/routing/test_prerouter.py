"""The pre-router sends on what no draft would answer, keeps its promise, and else stands by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from demo.stand_in_cloud import StandInCloud
from proxy.errors import LocalBackendError, SettingsError
from proxy.routing import prerouter
from proxy.routing.calibration import load_calibration
from proxy.routing.prerouter import (
    PreRouter,
    foresight_in_force,
    read_foresight,
)
from proxy.settings import Settings
from proxy.types import JSON, JSONObject
from tests.factories import a_body, a_request
from tests.harness import ringfence, running_proxy
from tests.proxy.routing.tables import EASY, HARD, FakeEncoder, a_foresight


class Broken(FakeEncoder):
    """Vectors of whatever it is told."""

    told: Sequence[JSON] = ()

    def vector(self, text: str) -> Sequence[JSON]:
        return self.told


async def test_tells_what_a_draft_would_not_answer() -> None:
    foresight = a_foresight()
    assert 0.25 < foresight.ahead < 0.45
    assert foresight.escalated < 0.1
    router = PreRouter(foresight, FakeEncoder(), "cal_1")
    hard, easy = [await router.foresee(a_request(a_body(text))) for text in (HARD, EASY)]
    assert hard is not None
    assert easy is not None
    assert (hard.is_low, easy.is_low) == (True, False)
    assert (hard.estimator, hard.calibration_id) == ("pre_router", "cal_1")


def test_survives_json_and_refuses_others() -> None:
    found = a_foresight()
    raw: dict[str, Any] = json.loads(json.dumps(found.as_json()))
    assert read_foresight(raw) == found
    bad_model = raw["model"] | {"features": [*raw["model"]["features"][:-1], "other"]}
    changes: tuple[dict[str, Any], ...] = (
        {"model": bad_model},
        {"model": {}},
        {"threshold": "x"},
        {"ahead": float("nan")},
        {"spread_shares": []},
        {"encoder": None, "num_rows": None},
    )
    for change in changes:
        with pytest.raises(SettingsError):
            read_foresight(raw | change)


@pytest.mark.parametrize(
    "body",
    [
        a_body(HARD, tools=[{"type": "function", "function": {"name": "f"}}]),
        a_body(HARD, response_format={"type": "json_object"}),
        a_body(""),
        a_body(HARD * 1_001),
        a_body([{"type": "text", "text": HARD}]),
        {"model": "ringfence", "messages": []},
    ],
)
async def test_does_not_ask_about_what_it_was_not_made_for(body: JSONObject) -> None:
    encoder = FakeEncoder()
    assert await PreRouter(a_foresight(), encoder).foresee(a_request(body)) is None
    assert encoder.num_asked == 0


async def test_stands_by_where_the_encoder_fails_is_late_or_talks_nonsense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prerouter, "TIMEOUT_S", 0.05)
    foresight, asked = a_foresight(), a_request(a_body(HARD))
    encoders = [FakeEncoder(fault=LocalBackendError("down")), FakeEncoder(delay_s=5.0)]
    for told in ((), (1.0,), (1.0, 2.0, 3.0), ("x", 1.0), (True, 1.0), (float("nan"), 1.0)):
        broken = Broken()
        broken.told = told
        encoders.append(broken)
    for encoder in encoders:
        assert await PreRouter(foresight, encoder).foresee(asked) is None
    assert all(encoder.num_asked == 1 for encoder in encoders)


def test_is_refused_without_what_it_needs(tmp_path: Path) -> None:
    on = Settings(pre_router=True)
    assert foresight_in_force(Settings(), None) is None
    with pytest.raises(SettingsError, match="--ahead"):
        foresight_in_force(on, None)


QUESTIONS = ("What is {} plus {}?", "Who wrote the forgotten novel number {} of shelf {}?")


def write_data(path: Path) -> None:
    """Sums that the local model is sure of, and novels that it is not."""
    lines = []
    for n in range(180):
        hard = n % 3 == 0
        row = {
            "id": f"q{n}",
            "question": QUESTIONS[hard].format(n % 37, n // 3),
            "answers": ["yes"],
            "local": {
                "answer": "no" if hard else "yes",
                "logprobs": {"content": [{"token": "x", "logprob": -2.5 if hard else -0.02}]},
            },
            "cloud": {"correct": True, "cost_usd": 0.01},
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")


def routing_of(record: dict[str, Any]) -> dict[str, Any]:
    routing: dict[str, Any] = record["routing"]
    return routing


@pytest.mark.timeout(300)
async def test_a_running_proxy_sends_ahead_what_it_learned_and_nothing_that_is_pinned(
    tmp_path: Path, local_url: str
) -> None:
    write_data(tmp_path / "qa.jsonl")
    made = tmp_path / "c.json"
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url}
    done = ringfence(
        *("calibrate", "--data", str(tmp_path / "qa.jsonl"), "--out", str(made), "--recorded"),
        *("--goal", "cloud share at most 60%", "--ahead", "0.1"),
        **env,
    )
    assert done.returncode == 0, done.stderr
    assert "sent without a draft" in done.stdout
    foresight = load_calibration(made).foresight
    assert foresight is not None
    assert foresight["ahead"] > 0.25
    env |= {"RINGFENCE_CALIBRATION_FILE": str(made), "RINGFENCE_PRE_ROUTER": "true"}
    env |= {"RINGFENCE_CONFIDENCE_THRESHOLD": ""}
    refused = ringfence("check", **env | {"RINGFENCE_EMBEDDING_MODEL": "other"})
    assert "was made for the encoder" in refused.stdout + refused.stderr
    hard = QUESTIONS[1].format(5, 41)
    with StandInCloud() as cloud, running_proxy(tmp_path, cloud.base_url, env) as proxy:
        proxy.ask(f"{hard} Write to Anna Miller, 12 Elm Street, Springfield.")
        proxy.ask(QUESTIONS[0].format(3, 4))
        for _ in range(20):  # on a busy machine the encoder may be too late, which changes nothing
            proxy.ask(hard)
            told = [routing_of(record) for record in proxy.records("decision")]
            if told[-1]["reason"] == "prerouted":
                break
    assert (told[-1]["reason"], told[-1]["estimator"]) == ("prerouted", "pre_router")
    assert told[0]["reason"] == "pinned"
    assert told[1]["estimator"] == "mean_logprob"
    assert b"Miller" not in b"".join(request.body for request in cloud.requests)
