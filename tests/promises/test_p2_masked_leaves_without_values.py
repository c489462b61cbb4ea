"""P2, masked: what may leave only masked leaves without a value, and comes back with all of them.

The stand-in repeats what it is told, so that each placeholder comes back. The local tier is down
and policy lets the cloud answer then, so that every request that may leave does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from demo.stand_in_cloud import (
    END,
    Recorded,
    Reply,
    StandInCloud,
    chunk,
    completion,
    response,
    streamed,
)
from tests.harness import RunningProxy, free_port, running_proxy, write_policy

IBAN = "GB82 WEST 1234 5698 7654 32"
VALUES = ("Jane Doe", "jane.doe@example-mail.com", "+49 151 23456789", IBAN)
TEXT = (
    "I am Jane Doe (jane.doe@example-mail.com, phone +49 151 23456789) paid from "
    "GB82 WEST 1234 5698 7654 32. Thank Jane Doe for it."
)
#: What of the default policy masks instead of keeping at home.
MASKED = (
    "{categories: [identity, contact], min_score: 0.4}\n    action: local_only",
    "{categories: [financial], min_score: 0.4}\n    action: local_only",
    "{action: local_only, rule: people-stay}",
    "{action: local_only, rule: money-stays}",
)
PSEUDONYM = "{mask: {with: pseudonym}}"
PLACEHOLDER = re.compile(rb"<[A-Z_]+_[a-z2-9]{6}>")


def echo(asked: Recorded) -> Reply:
    """Say the last message again, and the arguments of the last tool call."""
    body = json.loads(asked.body)
    if asked.path.endswith("/responses"):
        return Reply(body=echoed_response(body))
    said = "\n".join(str(message.get("content")) for message in body["messages"])
    answer = json.loads(completion(said, body["model"]))
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            answer["choices"][0]["message"]["tool_calls"] = [call]
    return Reply(body=json.dumps(answer).encode())


def echoed_response(body: dict[str, Any]) -> bytes:
    """A response that says the instructions and the input again, and calls a tool with both."""
    said = f"{body.get('instructions')} {body['input']}"
    answer = json.loads(response(said, body["model"]))
    arguments = json.dumps({"text": json.dumps({"said": said})})
    call = {"type": "function_call", "id": "fc", "call_id": "c", "status": "completed"}
    answer["output"].append({**call, "name": "send", "arguments": arguments})
    return json.dumps({**answer, "instructions": body.get("instructions")}).encode()


@pytest.fixture(scope="module")
def masking(
    _cloud: StandInCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy whose policy masks people, contacts and money."""
    with _masking(tmp_path_factory.mktemp("masking"), _cloud, "mask") as running:
        yield running


@pytest.fixture(scope="module")
def pretending(
    _cloud: StandInCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """The same, with pseudonyms."""
    with _masking(tmp_path_factory.mktemp("pretending"), _cloud, PSEUDONYM) as running:
        yield running


@contextmanager
def _masking(folder: Path, _cloud: StandInCloud, action: str) -> Iterator[RunningProxy]:
    edits = [
        (text, text.replace("local_only", action if "min_score" in text else "mask"))
        for text in MASKED
    ]
    edits.append(("on_local_failure: refuse", "on_local_failure: cloud"))
    env = {
        "RINGFENCE_LOCAL_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        "RINGFENCE_POLICY_FILE": str(write_policy(folder, _cloud.base_url, edits)),
    }
    with running_proxy(folder, _cloud.base_url, env, ready="/healthz") as running:
        yield running


@pytest.fixture
def echoing(cloud: StandInCloud) -> StandInCloud:
    cloud.reply = echo
    return cloud


def nothing_of_it_arrived(cloud: StandInCloud) -> bool:
    """No value, nor a part of one, in any byte that the stand-in got."""
    parts = (*VALUES, "Jane", "Doe", "23456789", "7654")
    return not any(part.encode() in cloud.received for part in parts)


def found_by_rules(proxy: RunningProxy) -> dict[str, int]:
    """What the last decision on record found of the entities that the policy masks."""
    entities: Any = proxy.records("decision")[-1]["entities"]
    masked = ("EMAIL_ADDRESS", "IBAN_CODE", "PERSON", "PHONE_NUMBER")
    found = {one["entity"]: one["count"] for one in entities if one["entity"] in masked}
    assert set(found) == set(masked)
    return found


def test_values_stay_and_come_back(masking: RunningProxy, echoing: StandInCloud) -> None:
    answer = masking.ask(TEXT)
    assert len(echoing.requests) == 1
    assert nothing_of_it_arrived(echoing)
    assert len(set(PLACEHOLDER.findall(echoing.received))) == len(VALUES)
    assert answer.choices[0].message.content == TEXT
    assert masking.records("egress.intent")[-1]["masked"] == found_by_rules(masking)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_values_come_back_in_a_stream_that_cuts_them(
    size: int, masking: RunningProxy, cloud: StandInCloud
) -> None:
    def cut(asked: Recorded) -> Reply:
        said = json.loads(asked.body)["messages"][-1]["content"]
        pieces = [said[start : start + size] for start in range(0, len(said), size)]
        return streamed(*(chunk({"content": one}) for one in pieces), chunk({}, "stop"), END)

    cloud.reply = cut
    chunks = list(
        masking.client.chat.completions.create(
            model="ringfence",
            messages=[{"role": "user", "content": TEXT}],
            stream=True,
            max_tokens=8,
        )
    )
    said = [one.choices[0].delta.content or "" for one in chunks]
    assert "".join(said) == TEXT
    assert (len(said) > 2) == (size < 1000)
    assert all(value not in one for one in said for value in ("<PERSON", "IBAN_CODE"))
    assert nothing_of_it_arrived(cloud)
    assert masking.records_once("egress.outcome", 1)[-1]["restored"] == len(VALUES) + 1


def test_values_come_back_in_a_stream(masking: RunningProxy, echoing: StandInCloud) -> None:
    chunks = masking.client.chat.completions.create(
        model="ringfence", messages=[{"role": "user", "content": TEXT}], stream=True, max_tokens=8
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == TEXT
    assert nothing_of_it_arrived(echoing)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_values_of_a_response_stay_and_come_back(
    stream: bool, masking: RunningProxy, echoing: StandInCloud
) -> None:
    told: Any = masking.client.responses.create(
        model="ringfence", instructions="You write for Jane Doe.", input=TEXT, stream=stream
    )
    deltas = ""
    if stream:
        events = list(told)
        deltas = "".join(one.delta for one in events if one.type == "response.output_text.delta")
        told = events[-1].response
    said = f"You write for Jane Doe. {TEXT}"
    assert len(echoing.requests) == 1
    assert nothing_of_it_arrived(echoing)
    assert told.output_text == said
    assert told.instructions == "You write for Jane Doe."
    assert json.loads(json.loads(told.output[1].arguments)["text"]) == {"said": said}
    assert deltas == (said if stream else "")
    kept = masking.client.responses.retrieve(told.id)
    assert kept.output_text == said
    again = masking.client.responses.create(
        model="ringfence", input="Whom do you write for?", previous_response_id=told.id
    )
    assert len(echoing.requests) == 2
    assert nothing_of_it_arrived(echoing)
    assert "Jane Doe" in again.output_text


def test_values_in_tool_calls_and_results_come_back(
    masking: RunningProxy, echoing: StandInCloud
) -> None:
    given = {"to": 'Jane Doe "JD"', "text": json.dumps({"mail": VALUES[1]})}
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "send", "arguments": json.dumps(given)},
    }
    answer = masking.client.chat.completions.create(
        model="ringfence",
        messages=[
            {"role": "user", "content": "Send it to Jane Doe."},
            {"role": "assistant", "content": None, "tool_calls": [call]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": "call_1", "content": f"sent to {VALUES[1]}"},
        ],
        max_tokens=8,
    )
    assert len(echoing.requests) == 1
    assert nothing_of_it_arrived(echoing)
    told = (answer.choices[0].message.tool_calls or [None])[0]  # type: ignore[list-item]
    assert isinstance(told, ChatCompletionMessageFunctionToolCall)
    arguments = json.loads(told.function.arguments)
    assert arguments["to"] == given["to"]
    assert json.loads(arguments["text"]) == {"mail": VALUES[1]}


def test_values_leave_as_others_that_nobody_has(
    pretending: RunningProxy, echoing: StandInCloud
) -> None:
    answer = pretending.ask(TEXT)
    assert len(echoing.requests) == 1
    assert nothing_of_it_arrived(echoing)
    assert not PLACEHOLDER.search(echoing.received)
    sent = json.loads(echoing.requests[0].body)["messages"][-1]["content"]
    name = r"[A-Z][a-z]+-[A-Z][a-z]+ [A-Z][a-z]+-[A-Z][a-z]+"
    assert re.fullmatch(
        rf"I am ({name}) \([a-z.-]+@example\.(?:com|net|org), phone \+1 \d{{3}}-555-01\d\d\) "
        r"paid from GB\d\d [A-Z]{4} \d{4} \d{4} \d{4} \d\d\. Thank \1 for it\.",
        sent,
    )
    assert answer.choices[0].message.content == TEXT
    assert pretending.records("egress.intent")[-1]["masked"] == found_by_rules(pretending)


def test_made_up_values_never_stand_for_others_in_a_stream_and_are_written_nowhere(
    pretending: RunningProxy, echoing: StandInCloud
) -> None:
    chunks = pretending.client.chat.completions.create(
        model="ringfence", messages=[{"role": "user", "content": TEXT}], stream=True, max_tokens=8
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == TEXT
    sent = json.loads(echoing.requests[0].body)["messages"][-1]["content"]
    written = pretending.everything_written()
    assert nothing_of_it_arrived(echoing)
    assert sent.split()[2].encode() not in written
    assert not any(value.encode() in written for value in VALUES)


@pytest.mark.parametrize(
    "more",
    [
        {"stop": ["Jane Doe"]},
        {"extra_body": {"Jane Doe": 1}},
    ],
    ids=["stop", "key"],
)
def test_what_cannot_be_masked_stays(
    more: dict[str, object], masking: RunningProxy, echoing: StandInCloud
) -> None:
    with pytest.raises(openai.InternalServerError):
        masking.ask(TEXT, **more)
    assert echoing.requests == []
    routing = masking.records("decision")[-1]["routing"]
    assert routing["reason"] in ("unmaskable", "pinned")  # type: ignore[index]


def test_health_still_stays_and_cards_are_still_blocked(
    masking: RunningProxy, echoing: StandInCloud
) -> None:
    with pytest.raises(openai.InternalServerError):
        masking.ask("Jane Doe's doctor says she has diabetes. What now?")
    with pytest.raises(openai.BadRequestError):
        masking.ask("Jane Doe pays with 4111 1111 1111 1111")
    assert echoing.requests == []


def test_a_placeholder_typed_in_restores_nobodys_value(
    masking: RunningProxy, echoing: StandInCloud
) -> None:
    masking.ask(TEXT)
    (first, *_) = PLACEHOLDER.findall(echoing.received)
    text = f"Who is {first.decode()}? Ask Max Weber, please."
    assert masking.ask(text).choices[0].message.content == text
    assert b"Weber" not in echoing.received


def test_no_value_is_written_anywhere(masking: RunningProxy, echoing: StandInCloud) -> None:
    masking.ask(TEXT)
    written = masking.everything_written()
    for value in (*VALUES, "jane.doe", "23456789"):
        assert value.encode() not in written
    assert not PLACEHOLDER.search(written)
