"""What policy looks for in the answers of a cloud reaches nobody, however the answer is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion, response
from tests.harness import RunningProxy, running_proxy, write_policy

MAIL = "max.weber@example-mail.com"
IBAN = "GB82 WEST 1234 5698 7654 32"
SAID = f"Write to {MAIL} and pay to {IBAN}, thank you."
GIVEN = "Write to [REDACTED] and pay to [REDACTED], thank you."
ASKED = "Whom do I write to about the harbour?"


def tell(asked: Recorded) -> Reply:
    """An answer that holds personal data nobody asked for, in its text and in a tool call."""
    if asked.path.endswith("/responses"):
        return Reply(body=response(SAID, "gpt-4o-mini"))
    answer = json.loads(completion(SAID, "gpt-4o-mini"))
    arguments = json.dumps({"mail": json.dumps({"to": MAIL})})
    call = {"id": "call_1", "type": "function", "function": {"name": "s", "arguments": arguments}}
    answer["choices"][0]["message"]["tool_calls"] = [call]
    return Reply(body=json.dumps(answer).encode())


@pytest.fixture(scope="module")
def inspecting(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy whose policy has answers redacted, for an app that goes to the cloud first."""
    folder = tmp_path_factory.mktemp("inspecting")
    scan = "responses: {scan: redact, categories: [contact, financial]}"
    edit = ("unrecorded_local: false", f"unrecorded_local: false\n{scan}")
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_CLOUD_FIRST_APPS": "default",
        "RINGFENCE_EXPOSE_METRICS": "true",
        "RINGFENCE_POLICY_FILE": str(write_policy(folder, _cloud.base_url, [edit])),
    }
    with running_proxy(folder, _cloud.base_url, env) as running:
        yield running


def test_an_answer_is_given_out_without_what_was_found(
    inspecting: RunningProxy, cloud: StandInCloud
) -> None:
    cloud.reply = tell
    message = inspecting.ask(ASKED).choices[0].message
    assert message.content == GIVEN
    assert MAIL not in message.model_dump_json()
    stream = inspecting.ask(ASKED, stream=True)
    pieces = [chunk.choices[0].delta for chunk in stream if chunk.choices]  # type: ignore[attr-defined]
    assert "".join(piece.content or "" for piece in pieces) == GIVEN
    assert MAIL not in "".join(piece.model_dump_json() for piece in pieces)
    responses = inspecting.client.responses
    told = responses.create(model="ringfence", input=ASKED)
    assert told.output_text == GIVEN
    assert responses.retrieve(told.id).output_text == GIVEN
    asked = {"model": "ringfence", "input": ASKED, "stream": True}
    events = inspecting.post_to("/v1/responses", json.dumps(asked).encode()).content
    assert MAIL.encode() not in events
    assert GIVEN.encode() in events
    assert len(cloud.requests) == 4
    outcomes = inspecting.records("egress.outcome")
    assert [outcome["answer_scan"] for outcome in outcomes] == ["redacted"] * 4
    assert outcomes[-1]["answer_entities"].keys() == {"EMAIL_ADDRESS", "IBAN_CODE"}  # type: ignore[attr-defined]
    assert b'ringfence_answer_scans_total{verdict="redacted"} 4.0' in inspecting.metrics()
    assert MAIL.encode() not in inspecting.everything_written()


def test_a_clean_answer_is_given_out_as_it_came(
    inspecting: RunningProxy, cloud: StandInCloud
) -> None:
    said = "The harbour master, on weekdays."
    cloud.reply = lambda _: Reply(body=completion(said, "gpt-4o-mini"))
    assert inspecting.ask(ASKED).choices[0].message.content == said
    assert inspecting.records("egress.outcome")[-1]["answer_scan"] == "clean"
