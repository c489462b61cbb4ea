"""Promise: an unknown confidence is never certainty, though the server was sound at the start.

A local server passes the probe and goes bad later. With the highest threshold every draft that can
be scored escalates; so what stays at home does so for want of a score, and the record says that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from tests.harness import RunningProxy, running_proxy

TEXT = "The Volga flows through eleven towns and into the Caspian Sea."
WORDS = [f" {word}" for word in TEXT.split()]
NUM = len(WORDS)
SOUND = [-0.1 * number for number in range(NUM)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def answer(content: str | None, logprobs: Any, **message: Any) -> Reply:
    told: Any = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": told, "finish_reason": "stop", "logprobs": logprobs}
    return Reply(body=json.dumps({"model": "m", "choices": [choice]}).encode())


def scored(logprobs: list[Any], words: list[str] | None = None, top: Any = None) -> dict[str, Any]:
    alternatives = [{"token": str(n), "logprob": one} for n, one in enumerate(top or ())]
    entries = [
        {"token": word, "logprob": one, "top_logprobs": alternatives}
        for word, one in zip(words or WORDS, logprobs, strict=False)
    ]
    return {"content": entries}


def sound(_: Recorded) -> Reply:
    return answer(TEXT, scored(SOUND, top=[-0.2, -2.0, -3.0]))


@pytest.fixture(scope="module", params=["mean_logprob", "entropy"])
def homes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningProxy, StandInCloud, StandInCloud]]:
    folder = tmp_path_factory.mktemp("proxy")
    with StandInCloud() as cloud, StandInCloud(sound) as local:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url, "RINGFENCE_LOCAL_MODEL": "scripted"}
        env["RINGFENCE_ESTIMATOR"] = request.param
        with running_proxy(folder, cloud.base_url, env) as proxy:
            proxy.records_once("local.probed", 1)
            yield proxy, cloud, local


def route_of(proxy: RunningProxy, question: str) -> dict[str, Any]:
    proxy.ask(question)
    routing: Any = proxy.records("decision")[-1]["routing"]
    return {name: routing[name] for name in ("route", "reason", "score", "reasons")}


UNKNOWN: dict[str, Any] = {
    "route": "local",
    "reason": "confidence_unknown",
    "score": None,
    "reasons": [],
}


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {"content": None},
        {"content": []},
        scored([0.0] * NUM, top=[0.0, 0.0]),
        scored([-0.3] * NUM, top=[-0.3, -2.0]),
        scored([0.4, *SOUND[1:]], top=[-0.2, -2.0]),
        scored([None, *SOUND[1:]], top=[-0.2, -2.0]),
        scored(["-0.1", *SOUND[1:]], top=[-0.2, -2.0]),
        scored(SOUND[:3], top=[-0.2, -2.0]),
    ],
    ids="missing null none zeros constant positive no-number a-word broken-off".split(),
)
def test_a_server_that_goes_bad_after_the_probe_leaves_confidence_unknown(
    homes: tuple[RunningProxy, StandInCloud, StandInCloud], logprobs: Any
) -> None:
    proxy, cloud, local = homes
    local.reply = sound
    assert route_of(proxy, "Name a long river.")["route"] == "cloud"
    sent = len(cloud.requests)
    local.reply = lambda _: answer(TEXT, logprobs)
    assert route_of(proxy, "Name a long river.") == UNKNOWN
    assert len(cloud.requests) == sent


def test_alternatives_that_are_filled_in_are_no_certainty_either(
    homes: tuple[RunningProxy, StandInCloud, StandInCloud],
) -> None:
    proxy, _, local = homes
    local.reply = lambda _: answer(TEXT, scored(SOUND, top=[0.0] * 5))
    told = route_of(proxy, "Name a long river.")
    assert told["reason"] in ("low_confidence", "confidence_unknown")  # by the mean; by entropy
    assert told["score"] != 0


def test_an_answer_of_nothing_but_a_sure_end_escalates(
    homes: tuple[RunningProxy, StandInCloud, StandInCloud],
) -> None:
    proxy, _, local = homes
    local.reply = lambda _: answer("", scored([-0.001], ["<end>"], top=[-0.001, -9.0]))
    told = route_of(proxy, "Name a long river.")
    assert (told["route"], told["reasons"]) == ("cloud", ["empty_answer"])
