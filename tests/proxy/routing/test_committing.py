"""Early commit keeps its promise, commits to no doubt, and is refused where it was not learned."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.stand_in_cloud import END, Reply, StandInCloud, chunk, event, streamed
from proxy.errors import SettingsError
from proxy.metrics import Metrics
from proxy.routing.calibration import load_calibration
from proxy.routing.committing import (
    AFTER_TOKENS,
    Commitment,
    EarlyCommit,
    commit,
    commitment_in_force,
    read_commitment,
    score_of_beginning,
)
from proxy.routing.drift import FEWEST, DriftWatch, Expected
from proxy.settings import Settings
from proxy.types import Draft
from tests.factories import a_draft
from tests.harness import ringfence, running_proxy
from tests.promises.test_streams_flow import listening, said
from tests.proxy.routing.test_calibration import MADE, settings

MADE_EARLY = Commitment(4, -0.3, 0.02, 500, 0.4)


def a_long_draft(*logprobs: float, words: str = "The Volga is the longest river of all") -> Draft:
    tokens = tuple(f" {word}" for word in words.split())[: len(logprobs)]
    tokens += ("x",) * (len(logprobs) - len(tokens))
    return replace(a_draft("".join(tokens), logprobs), tokens=tokens)


def test_tells_no_more_wrongly_than_it_promises() -> None:
    """200 draws from a population of which the share told wrongly is known at each threshold."""
    random = np.random.default_rng(1)
    missed, told = 0, []
    for _ in range(200):
        begun = -random.exponential(0.5, 400)
        escalates = random.random(400) > np.exp(begun)  # P(escalates | begun) = 1 - e^begun
        made = commit(begun, escalates, "mean_logprob", 0.05, 0.05)
        # with u = e^begun, P(u < x) = x^2, so wrongly above c: integral of (1 - u) 2u from e^c to 1
        least = np.exp(made.threshold)
        wrongly = (1 - least**2) - 2 / 3 * (1 - least**3)
        missed += wrongly > made.at_most
        told.append(1 - least**2)
    assert missed <= 20  # 5 % are 10; more than 20 by chance once in a thousand
    assert np.mean(told) > 0.25


@pytest.mark.parametrize(
    ("begun", "escalates"),
    [
        (np.full(40, -0.1), np.zeros(40, bool)),  # too few to show anything
        (np.full(400, np.nan), np.zeros(400, bool)),  # no draft is long enough
        (np.full(400, -0.1), np.ones(400, bool)),  # each would escalate
    ],
    ids=["few", "short", "wrong"],
)
def test_rows_that_show_nothing_are_refused(begun: Any, escalates: Any) -> None:
    with pytest.raises(SettingsError, match="--commit"):
        commit(begun, escalates, "mean_logprob", 0.02, 0.05)


def test_a_beginning_is_scored_by_its_first_tokens_alone() -> None:
    draft = a_long_draft(-0.1, -0.2, -0.3, -0.4, -9.0)
    assert score_of_beginning("mean_logprob", draft, 4) == pytest.approx(-0.25)
    assert score_of_beginning("min", draft, 4) == -0.4
    assert score_of_beginning("mean_logprob", draft, 6) is None
    assert score_of_beginning("p_true", draft, 4) is None
    constant = a_long_draft(-0.1, -0.1, -0.1, -0.1, -0.2)
    assert score_of_beginning("mean_logprob", constant, 4) is None
    doubtful = a_long_draft(*(-0.1, -0.2) * 3, words="Well, I don't know that river")
    assert score_of_beginning("mean_logprob", doubtful, 4) is None
    assert score_of_beginning("mean_logprob", doubtful, 2) is not None


def early(commitment: Commitment = MADE_EARLY, drift: DriftWatch | None = None) -> EarlyCommit:
    return EarlyCommit(None, "mean_logprob", -0.6, commitment, Metrics(), drift)  # type: ignore[arg-type]


def test_commits_to_what_begins_surely_and_shows_no_doubt() -> None:
    sure = a_long_draft(-0.1, -0.2, -0.3, -0.4)
    assert early().holds(sure)
    assert not early().holds(a_long_draft(-0.1, -0.2, -0.3, -1.4))
    assert not early().holds(replace(sure, text="I'm not sure, but"))  # beyond the tokens counted
    assert not early().holds(replace(sure, tokens=("<unk>", *sure.tokens[1:])))
    assert not early().holds(replace(sure, token_logprobs=()))


def test_sees_what_became_of_those_it_committed_to() -> None:
    metrics = Metrics()
    watch = DriftWatch(Expected((-0.5,), (0.1, 0.9, 0.0), 0.1, 1000), metrics)
    told = replace(early(drift=watch), metrics=metrics)
    told.saw(None)
    for _ in range(FEWEST):
        told.saw(a_long_draft(-0.1, -0.2, -0.3, -8.0))
    told.saw(a_long_draft(-0.1, -0.2, -0.3, -0.2))
    assert watch.has_drifted
    counts = metrics.exposition().decode()
    for came_to, num in (("broken", 1), ("would_escalate", FEWEST), ("kept", 1)):
        assert f'ringfence_early_commits_total{{commit="{came_to}"}} {num}.0' in counts


@pytest.mark.parametrize(
    "change",
    [
        {"after_tokens": 0},
        {"after_tokens": 10**6},
        {"threshold": float("nan")},
        {"threshold": None},
        {"at_most": "x"},
        {"num_rows": None},
    ],
    ids=range(6),
)
def test_what_is_no_early_commit_is_refused(change: dict[str, Any]) -> None:
    raw = MADE_EARLY.as_json()
    assert read_commitment(raw) == MADE_EARLY
    with pytest.raises(SettingsError):
        read_commitment(raw | change)


def test_an_artifact_holds_it_and_one_without_is_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    MADE.save(path)
    assert "commitment" not in json.loads(path.read_text())
    assert load_calibration(path).id == MADE.id
    made = replace(MADE, commitment=MADE_EARLY.as_json())
    made.save(path)
    assert load_calibration(path) == made
    assert made.id != MADE.id
    raw = json.loads(path.read_text())
    raw["commitment"]["threshold"] = -9.0
    path.write_text(json.dumps(raw))
    with pytest.raises(SettingsError, match="was changed"):
        load_calibration(path)


def test_it_is_switched_on_by_hand_and_only_where_it_was_learned(tmp_path: Path) -> None:
    made = replace(MADE, commitment=MADE_EARLY.as_json())
    on = settings(tmp_path / "c.json", early_commit=True)
    assert commitment_in_force(on, made) == MADE_EARLY
    assert commitment_in_force(settings(tmp_path / "c.json"), made) is None
    for without in (None, MADE):
        with pytest.raises(SettingsError, match="--commit"):
            commitment_in_force(on, without)
    learned = Settings(early_commit=True, estimator="learned")
    with pytest.raises(SettingsError, match="learned"):
        commitment_in_force(learned, made)


SURE, UNSURE = -0.02, -2.5


def logprobs(value: float, number: int) -> list[dict[str, Any]]:
    return [{"token": f"t{n} ", "logprob": value - n % 2 / 100} for n in range(number)]


def write_data(path: Path) -> None:
    """Sure drafts that end surely, and unsure ones that do not."""
    lines = []
    for n in range(900):
        hard = n % 3 == 0
        row = {
            "id": f"q{n}",
            "question": f"What is {n}?",
            "answers": ["yes"],
            "local": {
                "answer": "no" if hard else "yes",
                "logprobs": {"content": logprobs(UNSURE if hard else SURE, 24)},
            },
            "cloud": {"correct": True, "cost_usd": 0.01},
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")


def pieces(value: float, number: int) -> list[bytes]:
    """The chunks of an answer, a token each."""
    told = []
    for entry in logprobs(value, number):
        choice = {
            "index": 0,
            "delta": {"content": entry["token"]},
            "logprobs": {"content": [{**entry, "bytes": None, "top_logprobs": []}]},
            "finish_reason": None,
        }
        told.append(event({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))
    return told


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_running_proxy_tells_early_what_begins_surely(
    tmp_path: Path, gate: threading.Event
) -> None:
    write_data(tmp_path / "qa.jsonl")
    made = tmp_path / "c.json"
    with StandInCloud() as cloud, StandInCloud() as local:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url, "RINGFENCE_LOCAL_MODEL": "scripted"}
        done = ringfence(
            *("calibrate", "--data", str(tmp_path / "qa.jsonl"), "--out", str(made), "--recorded"),
            *("--goal", "cloud share at most 40%", "--commit", "0.02"),
            **env,
        )
        assert done.returncode == 0, done.stderr
        assert "told early: 6" in done.stdout
        env |= {"RINGFENCE_CALIBRATION_FILE": str(made), "RINGFENCE_EARLY_COMMIT": "true"}
        env |= {"RINGFENCE_CONFIDENCE_THRESHOLD": "", "RINGFENCE_EXPOSE_METRICS": "true"}
        local.reply = probed
        with running_proxy(tmp_path, cloud.base_url, env) as proxy:
            proxy.records_once("local.probed", 1)
            body = {"messages": [{"role": "user", "content": "What is 4?"}], "stream": True}
            begun = pieces(SURE, AFTER_TOKENS)
            local.reply = lambda _: streamed(*begun, gate, chunk({"content": "!"}, "stop"), END)
            with listening(proxy, {"model": "ringfence", **body}) as events:
                held = [next(events) for _ in begun]
                assert said(held).startswith("t0 t1 ")
                assert all(one["choices"][0]["logprobs"] is None for one in held)
                routing: Any = proxy.records("decision")[-1]["routing"]
                assert (routing["route"], routing["reason"]) == ("local", "committed_early")
                assert routing["score"] == pytest.approx(SURE - 0.005)
                gate.set()
                assert list(events)[-1] == "[DONE]"
            assert cloud.requests == []
            local.reply = lambda _: streamed(*pieces(UNSURE, 20), chunk({}, "stop"), END)
            with listening(proxy, {"model": "ringfence", **body}) as events:
                list(events)
            assert len(cloud.requests) == 1
            assert b'early_commits_total{commit="kept"} 1.0' in proxy.metrics()


def probed(asked: Any) -> Reply:
    """An endpoint that gives log-probabilities in streams, too, as the probe finds."""
    body = json.loads(asked.body or b"{}")
    if body.get("stream"):
        return streamed(*pieces(SURE, 4), chunk({}, "stop"), END)
    message = {"role": "assistant", "content": "Yes"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    told = {"content": [{**one, "top_logprobs": []} for one in logprobs(SURE, 4)]}
    answer = {"model": "m", "choices": [{**choice, "logprobs": told}]}
    return Reply(body=json.dumps(answer).encode())
