"""P2 for answers that are kept: whoever gets one later finds it as pinned as on its first day.

The servers are stand-ins, not models. The time of a pin is so short here that it is over at once
wherever nothing is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion
from tests.harness import RunningProxy, running_proxy
from tests.promises.test_p2_batches import a_line, end_of

pytestmark = pytest.mark.slow

QUESTION = "My name is Jane Doe, jane.doe@example-mail.com. What does paper {} say?"
PAPERS = {
    "none": "The older gardener sold both greenhouses, since frost had cracked the northern panes.",
    "stored": "The tall carpenter left his workshop, because floods had reached the timber.",
    "repeated": "The second baker closed her ovens, after thieves had emptied the cellar twice.",
    "batch": "The retired pilot rented three hangars, although storms had lifted the western roof.",
}


def at_home(recorded: Recorded) -> Reply:
    """Says what the paper says that is asked for."""
    found = [text for name, text in PAPERS.items() if f"paper {name} ".encode() in recorded.body]
    return Reply(body=completion(found[0], "scripted")) if found else Reply()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningProxy, StandInCloud]]:
    with StandInCloud() as cloud, StandInCloud(at_home) as local:
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local.base_url,
            "RINGFENCE_CLOUD_FIRST_APPS": "default",
            "RINGFENCE_PIN_TTL_S": "0.001",
        }
        with running_proxy(tmp_path_factory.mktemp("kept"), cloud.base_url, env) as running:
            yield running, cloud


def leaves(proxy: RunningProxy, cloud: StandInCloud, paper: str) -> bool:
    """Whether a question that carries what the paper says reaches the cloud."""
    cloud.requests.clear()
    body: dict[str, Any] = {"model": "ringfence"}
    body["messages"] = [{"role": "user", "content": f"Why? {PAPERS[paper]}"}]
    assert proxy.post(json.dumps(body).encode()).status_code == 200
    return bool(cloud.requests)


def chat(proxy: RunningProxy, paper: str, **headers: str) -> str:
    messages = [{"role": "user", "content": QUESTION.format(paper)}]
    body = json.dumps({"model": "ringfence", "messages": messages}).encode()
    told = proxy.post(body, **headers)
    assert told.status_code == 200
    return str(told.json()["choices"][0]["message"]["content"])


def test_what_nobody_keeps_is_pinned_for_the_set_time(
    proxy: tuple[RunningProxy, StandInCloud],
) -> None:
    running, cloud = proxy
    assert chat(running, "none") == PAPERS["none"]
    assert leaves(running, cloud, "none")


def test_a_stored_response_is_pinned_for_as_long_as_it_can_be_shown(
    proxy: tuple[RunningProxy, StandInCloud],
) -> None:
    running, cloud = proxy
    assert leaves(running, cloud, "stored")
    body = {"model": "ringfence", "input": QUESTION.format("stored")}
    made = running.post_to("/v1/responses", json.dumps(body).encode()).json()
    with httpx2.Client(trust_env=False) as wire:
        shown = wire.get(f"{running.url}/v1/responses/{made['id']}").json()
    assert shown["output"][0]["content"][0]["text"] == PAPERS["stored"]
    assert not leaves(running, cloud, "stored")


def test_an_answer_that_is_given_again_is_pinned_for_as_long_as_it_may_be(
    proxy: tuple[RunningProxy, StandInCloud],
) -> None:
    running, cloud = proxy
    assert leaves(running, cloud, "repeated")
    for _ in range(2):
        assert chat(running, "repeated", **{"Idempotency-Key": "k-1"}) == PAPERS["repeated"]
        assert not leaves(running, cloud, "repeated")


def test_a_line_of_a_batch_is_pinned_for_as_long_as_its_file_is_there(
    proxy: tuple[RunningProxy, StandInCloud],
) -> None:
    running, cloud = proxy
    assert leaves(running, cloud, "batch")
    with running.client as client:
        line = a_line("one", ("user", QUESTION.format("batch")))
        file = client.files.create(file=("lines.jsonl", line), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        done = end_of(client, batch.id)
        assert done.output_file_id is not None
        assert PAPERS["batch"] in client.files.content(done.output_file_id).text
    assert not leaves(running, cloud, "batch")
