"""P2 and P3 for batches: a line is a live request in all but its time, over a crash as well.

The scripted servers behind the proxy are stand-ins, not models.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from tests.clients.scripted import Script
from tests.harness import RunningProxy, running_proxy

pytestmark = pytest.mark.slow

EMAIL = "jane.doe@example-mail.com"
PINNED = f"Write a greeting to {EMAIL}, my neighbour."
AT_HOME = "The Volga is a long river (home)."
CLEAN = [f"Name river {place} of Europe." for place in range(8)]
CARD = "4111 1111 1111 1111"


def a_line(name: str, *messages: tuple[str, str], **more: object) -> bytes:
    told = [{"role": role, "content": text} for role, text in messages]
    body = {"model": "ringfence", "messages": told, **more}
    line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line).encode()


LINES = b"\n".join(
    (
        *(a_line(text, ("user", text)) for text in CLEAN[:4]),
        a_line("pinned", ("user", PINNED)),
        a_line("by name", ("user", PINNED), model="gpt-4o"),
        a_line("derived", ("user", "And?"), ("assistant", AT_HOME), ("user", "Why?")),
        a_line("blocked", ("user", f"Charge my card {CARD}.")),
        *(a_line(text, ("user", text)) for text in CLEAN[4:]),
    )
)


@dataclass
class Story:
    """What was seen of a batch whose proxy was killed in the middle of it."""

    results: dict[str, Any]
    cloud: StandInCloud
    proxy: RunningProxy
    written: bytes

    @property
    def asked(self) -> Counter[str]:
        """How often each text came to the cloud."""
        bodies = [json.loads(request.body) for request in self.cloud.requests]
        return Counter(body["messages"][-1]["content"] for body in bodies)


def until_asked(cloud: StandInCloud, times: int) -> None:
    deadline = time.monotonic() + 30
    while len(cloud.requests) < times:
        assert time.monotonic() < deadline, len(cloud.requests)
        time.sleep(0.01)


def end_of(client: openai.OpenAI, id_: str) -> openai.types.Batch:
    deadline = time.monotonic() + 60
    while (batch := client.batches.retrieve(id_)).status in ("validating", "in_progress"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
    while batch.status == "finalizing":
        batch = client.batches.retrieve(id_)
    return batch


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A proxy is killed while lines are at the cloud, and started again on the same folder."""
    folder = tmp_path_factory.mktemp("batches")
    script = Script("cloud")

    def slowly(recorded: Recorded) -> Reply:
        return Reply(body=script(recorded).body, delay_s=0.5)

    with StandInCloud(slowly) as cloud, StandInCloud(Script("home")) as local:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url}
        with running_proxy(folder, cloud.base_url, env) as proxy, proxy.client as client:
            assert proxy.ask(PINNED).choices[0].message.content == AT_HOME
            file = client.files.create(file=("lines.jsonl", LINES), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            until_asked(cloud, 3)  # two lines are done, and one or two under way
            proxy.process.send_signal(signal.SIGKILL)
            proxy.process.wait()
        with running_proxy(folder, cloud.base_url, env) as proxy, proxy.client as client:
            done = end_of(client, batch.id)
            assert done.status == "completed"
            results = {}
            for id_ in filter(None, (done.output_file_id, done.error_file_id)):
                for line in client.files.content(id_).text.splitlines():
                    result = json.loads(line)
                    assert result["custom_id"] not in results
                    results[result["custom_id"]] = result
            yield Story(results, cloud, proxy, proxy.everything_written())


def test_each_line_has_one_result(story: Story) -> None:
    assert story.results.keys() == {*CLEAN, "pinned", "by name", "derived", "blocked"}


def test_no_line_came_to_the_cloud_twice(story: Story) -> None:
    assert set(story.asked) <= set(CLEAN)
    assert set(story.asked.values()) == {1}


def test_what_was_under_way_is_told_as_cut_and_not_sent_again(story: Story) -> None:
    cut = {name for name, one in story.results.items() if (one["error"] or {}).get("code")}
    assert {story.results[name]["error"]["code"] for name in cut} == {"interrupted"}
    assert 1 <= len(cut) <= 2
    for name in set(CLEAN) - cut:
        answer = story.results[name]["response"]["body"]["choices"][0]["message"]["content"]
        assert answer == "The Volga is a long river (cloud)."


def test_a_pinned_line_stays_home_by_whatever_name(story: Story) -> None:
    for name in ("pinned", "by name", "derived"):
        answer = story.results[name]["response"]["body"]["choices"][0]["message"]["content"]
        assert answer == AT_HOME
    assert EMAIL.encode() not in story.cloud.received
    assert AT_HOME.encode() not in story.cloud.received


def test_a_blocked_line_is_blocked(story: Story) -> None:
    response = story.results["blocked"]["response"]
    assert response["status_code"] == 400
    assert response["body"]["error"]["code"] == "blocked_by_policy"


def test_each_answered_line_is_on_the_record(story: Story) -> None:
    recorded = {one["decision_id"]: one for one in story.proxy.records("decision")}
    for result in story.results.values():
        if (response := result["response"]) is not None:
            record = recorded[response["decision_id"]]
            assert record["request_id"] == response["request_id"]
            assert record["api_route"] == "chat.completions"
    intents = story.proxy.records("egress.intent")
    assert len(intents) >= len(story.cloud.requests)


def test_nothing_of_it_lies_in_the_clear(story: Story) -> None:
    for text in (EMAIL, CARD, CLEAN[0], "custom_id"):
        assert text.encode() not in story.written
