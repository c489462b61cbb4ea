"""The drill of derived data: a pinned answer is quoted in many ways, and each quotation stays home.

The local tier is a scripted stand-in here, so that the answer tells a secret in words that no
detector knows; the cloud is the recording stand-in. The app goes to the cloud first, so that
whatever may leave does: each quotation left before its answer was pinned.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx2
import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion
from tests.harness import RunningProxy, running_proxy

#: What the local tier answers, by the route that asks; each is pinned through that route.
ANSWERS = {
    "chat": (
        "The second tunnel under the north wing closes before summer, since the roof above the "
        "old boiler has begun to sink. Two engineers measured eleven millimetres since winter and "
        "expect twice as many until autumn. Nobody outside the building committee knows, and the "
        "insurance was never told about either measurement."
    ),
    "responses": (
        "Our bakery drops the rye starter that made it known and buys frozen dough from a factory "
        "instead. The change happens quietly in three shops first, while prices stay where they "
        "are. Customers who notice shall hear that the flour comes from another mill this year."
    ),
}
#: Which of them is quoted through which route.
QUOTED = {"chat": "responses", "responses": "chat"}
PINNED = "My name is Jane Doe, jane.doe@example-mail.com. What do the {} papers say?"
ASK = "What would you make of this?"

Quote = Callable[[str], list[dict[str, object]]]


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def sentences(text: str) -> list[str]:
    return [f"{sentence.rstrip('.')}." for sentence in text.split(". ")]


def pieces(text: str, size: int) -> list[str]:
    words = text.split()
    return [" ".join(words[start : start + size]) for start in range(0, len(words), size)]


def in_tool_call(text: str) -> list[dict[str, object]]:
    arguments = json.dumps({"mail": json.dumps({"body": text})})
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    return [
        user("Send it."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sent"},
    ]


def in_tool_result(text: str) -> list[dict[str, object]]:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    result = json.dumps({"rows": [{"note": sentences(text)[0]}]})
    return [
        user("Look it up."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": result},
    ]


def fenced_json(text: str) -> str:
    return "```json\n" + json.dumps({"summary": "é – " + text}, indent=2) + "\n```\nIs it valid?"


def parts(texts: list[str]) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}]


#: The ways a pinned answer is carried on, as messages of a chat.
CARRIED: dict[str, Quote] = {
    "whole": lambda a: [{"role": "assistant", "content": a}, user(ASK)],
    "one sentence": lambda a: [user(f'They said: "{sentences(a)[1]}" {ASK}')],
    "trimmed ends": lambda a: [user(f"... {a[30:-40]} ... {ASK}")],
    "case and blanks": lambda a: [user(a.upper().replace(" ", "\n "))],
    "in a code fence": lambda a: [user(f"{ASK}\n```text\n{a}\n```")],
    "in JSON in a code fence": lambda a: [user(fenced_json(a))],
    "in a tool call": in_tool_call,
    "in a tool result": in_tool_result,
    "under other headers": lambda a: [user(f"## Zusammenfassung\n\n{a}\n\n## Fazit\n")],
    "in base64": lambda a: [user(base64.b64encode(sentences(a)[0].encode()).decode())],
    "in a link": lambda a: [user(f"Mend mailto:x?body={urllib.parse.quote(a)} {ASK}")],
    "as HTML": lambda a: [user(f"<p>{'</i>&nbsp;<i>'.join(a.split())}</p>")],
    "carried on": lambda a: [{"role": "assistant", "content": a + " And then it"}, user("Go on.")],
    "as a list": lambda a: [user("".join(f"- **{one}**\n" for one in sentences(a)))],
    "split over messages": lambda a: [user(half) for half in pieces(a, len(a.split()) // 2)],
    "split over small parts": lambda a: parts(pieces(a, 4)),
    "as a system prompt": lambda a: [{"role": "system", "content": a}, user(ASK)],
    "ten words": lambda a: [user(f"{ASK} {' '.join(a.split()[5:15])}")],
}

#: What `docs/architecture.md` says is not known again. Where one of them is, say so there.
NOT_CARRIED: dict[str, Quote] = {
    "in other words": lambda _: [user("They shut a passage because a ceiling moves, says a memo.")],
    "six words": lambda a: [user(f"{ASK} {' '.join(a.split()[5:11])}")],
}

#: Harmless talk that shares its usual words with everyone, and with the pinned request.
HARMLESS: dict[str, Quote] = {
    "phrases": lambda _: [
        {
            "role": "assistant",
            "content": "I'm sorry, but I can't help you with that request. Please let me know if "
            "you have any other questions, I am happy to help you with them.",
        },
        user("Please let me know if there is anything else that I can do for you."),
    ],
    "the same matter": lambda _: [user("Why do old tunnels close, and who freezes rye dough?")],
}


@dataclass(frozen=True)
class Drill:
    """A proxy between two stand-ins, and what its two pinned exchanges were decided as."""

    proxy: RunningProxy
    cloud: StandInCloud
    wire: httpx2.Client  # one for all requests: making one costs more than a request
    pinned_by: dict[str, str]
    response_id: str
    left_before: frozenset[str]

    def sends(self, route: str, messages: list[dict[str, object]]) -> bool:
        """Whether a conversation reaches the cloud."""
        return sends(self.wire, self.cloud, route, messages)

    def origin(self) -> object:
        """What the last decision says that its request stems from."""
        return self.proxy.records("decision")[-1]["routing"]["derived_from"]  # type: ignore[index]


def as_items(messages: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """The messages of a chat as the input of a response."""
    for message in messages:
        calls = message.get("tool_calls")
        content = message["content"]
        if isinstance(calls, list):
            for call in calls:
                yield {"type": "function_call", "call_id": call["id"], **call["function"]}
        elif message["role"] == "tool":
            yield {"type": "function_call_output", "call_id": "c1", "output": content}
        elif isinstance(content, list):
            told = [{"type": "input_text", "text": part["text"]} for part in content]
            yield {"role": message["role"], "content": told}
        else:
            yield {"role": message["role"], "content": content}


def sends(
    wire: httpx2.Client, cloud: StandInCloud, route: str, messages: list[dict[str, object]]
) -> bool:
    """Whether a conversation reaches the cloud; it is answered in any case."""
    cloud.requests.clear()
    body: dict[str, object] = {"model": "ringfence", "messages": messages}
    path = "/v1/chat/completions"
    if route == "responses":
        body = {"model": "ringfence", "input": list(as_items(messages))}
        path = "/v1/responses"
    reply = wire.post(path, content=json.dumps(body).encode())
    assert reply.status_code == 200, reply.text
    return bool(cloud.requests)


def script(asked: Recorded) -> Reply:
    """The local tier's part."""
    text = asked.body.decode()
    said = [answer for name, answer in ANSWERS.items() if f"What do the {name} papers" in text]
    return Reply(body=completion((said or ["Noted."])[0], "scripted"))


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    with StandInCloud() as cloud, StandInCloud(script) as local:
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local.base_url,
            "RINGFENCE_LOCAL_MODEL": "scripted",
            "RINGFENCE_CLOUD_FIRST_APPS": "default",
        }
        with (
            running_proxy(tmp_path_factory.mktemp("drill"), cloud.base_url, env) as proxy,
            httpx2.Client(
                base_url=proxy.url,
                trust_env=False,
                timeout=60,
                headers={"content-type": "application/json"},
            ) as wire,
        ):
            everything = {**CARRIED, **NOT_CARRIED, **HARMLESS}
            left = frozenset(
                f"{way} {route}"
                for way, quote in everything.items()
                for route, told in QUOTED.items()
                if sends(wire, cloud, route, quote(ANSWERS[told]))
            )
            pinned_by = {}
            response_id = ""
            for route in ANSWERS:
                cloud.requests.clear()
                asked = PINNED.format(route)
                if route == "chat":
                    proxy.ask(asked)
                else:
                    answered = proxy.client.responses.create(model="ringfence", input=asked)
                    response_id = answered.id
                assert cloud.requests == []
                pinned_by[route] = str(proxy.records("decision")[-1]["decision_id"])
            yield Drill(proxy, cloud, wire, pinned_by, response_id, left)


@pytest.mark.parametrize("route", QUOTED)
@pytest.mark.parametrize("way", CARRIED)
def test_what_carries_a_pinned_answer_stays_home(way: str, route: str, drill: Drill) -> None:
    assert f"{way} {route}" in drill.left_before  # it is the pin that keeps it home
    assert not drill.sends(route, CARRIED[way](ANSWERS[QUOTED[route]]))
    assert str(drill.origin()).startswith("dec_")


def test_a_completion_that_goes_on_from_a_pinned_answer_stays_home(drill: Drill) -> None:
    prompt = ANSWERS["chat"][20:-20]
    drill.cloud.requests.clear()
    body = json.dumps({"model": "ringfence", "prompt": prompt}).encode()
    drill.proxy.post_to("/v1/completions", body)
    assert drill.cloud.requests == []
    assert str(drill.origin()).startswith("dec_")


def test_a_response_that_goes_on_from_a_pinned_one_stays_home(drill: Drill) -> None:
    drill.cloud.requests.clear()
    drill.proxy.client.responses.create(
        model="ringfence", input="Go on.", previous_response_id=drill.response_id
    )
    assert drill.cloud.requests == []
    assert drill.origin() == drill.pinned_by["responses"]


@pytest.mark.parametrize("route", QUOTED)
@pytest.mark.parametrize("way", [*NOT_CARRIED, *HARMLESS])
def test_what_is_told_in_other_words_or_is_harmless_leaves(
    way: str, route: str, drill: Drill
) -> None:
    quote = {**NOT_CARRIED, **HARMLESS}[way]
    assert drill.sends(route, quote(ANSWERS[QUOTED[route]]))
    assert drill.origin() is None


def test_no_word_of_a_pinned_answer_is_written(drill: Drill) -> None:
    written = drill.proxy.everything_written()
    assert not any(word in written for word in (b"tunnel", b"boiler", b"bakery", b"starter"))
