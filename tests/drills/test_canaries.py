"""The canary drill: none of many planted strings, in no form, in any byte that the system wrote.

A real proxy with real detectors and a real ledger, in front of two stand-ins over HTTP: a fast one
for the local model, which repeats what it was told, and one for the cloud, which fails at times.
300 requests by default; ``RINGFENCE_DRILL_CANARIES=full`` for 10,000.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from tests.drills.canary import Canaries
from tests.harness import RunningProxy, running_proxy

NUM_REQUESTS = 10_000 if os.environ.get("RINGFENCE_DRILL_CANARIES") == "full" else 300
NUM_CLIENTS = 4

Sent = tuple[str, bytes, dict[str, str]]

Form = Callable[[bytes], bytes]

ENCODINGS: dict[str, Form] = {
    "hex": lambda b: b.hex().encode(),
    "hex upper": lambda b: b.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "raw": bytes,
}


def _digested(name: str, encode: Form) -> Form:
    return lambda b: encode(hashlib.new(name, b).digest())


FORMS: dict[str, Form] = {
    **ENCODINGS,
    "upper case": bytes.upper,
    "reversed": lambda b: b[::-1],
    "base64 behind 1": lambda b: base64.b64encode(b"x" + b + b"yz"),
    "base64 behind 2": lambda b: base64.b64encode(b"xy" + b + b"z"),
    "percent": lambda b: "".join(f"%{byte:02X}" for byte in b).encode(),
    **{
        f"{name} {way}": _digested(name, encode)
        for name in ("md5", "sha1", "sha256")
        for way, encode in ENCODINGS.items()
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_search_finds_each_form_and_nothing_else(form: str) -> None:
    canaries = Canaries(seed=1)
    word, card = canaries.word(), canaries.card()
    text = canaries.text(f"Write to {word} about {card}.")
    search = canaries.searcher()
    for planted in (word, card, text):
        data = b'{"a":"12 zz' + FORMS[form](planted.encode()) + b'zz"}'
        assert search.find(data, binary=True), planted
        stranger = planted.translate(str.maketrans("qz4", "xy5"))
        assert not search.find(b"-" + FORMS[form](stranger.encode()) + b"-", binary=True)


def a_request(number: int, canaries: Canaries) -> Sent:
    """Request ``number`` of the drill, full of canaries."""
    word, card, text = canaries.word, canaries.card, canaries.text
    path, headers = "/v1/chat/completions", {"x-note": word(), "authorization": f"Bearer {word()}"}
    question = text(f"What does the word {word()} mean in one sentence?")
    plain: dict[str, object] = {
        "model": "ringfence",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 4,
    }
    match number % 10:
        case 0 | 1 | 2 | 3:
            return path, json.dumps(_full(canaries)).encode(), headers
        case 4 | 5 | 6:
            return path, json.dumps(plain).encode(), headers
        case 7:
            wrong = (
                {"model": word()},
                {"messages": word()},
                {word(): card(), "temperature": word()},
            )
            return path, json.dumps({**plain, **wrong[number // 10 % 3]}).encode(), headers
        case 8:
            broken = json.dumps(plain).encode()
            ends = (
                broken[:-1],
                broken[:-1] + b',"model":"%s"}' % word().encode(),
                b"\xff" + broken,
            )
            return path, ends[number // 10 % 3], headers
        case _:
            return f"/v1/{word()}?q={card()}", json.dumps(plain).encode(), headers


def _full(canaries: Canaries) -> dict[str, object]:
    """A canary in every place that a request has."""
    word, card, text = canaries.word, canaries.card, canaries.text
    told = text(f"Write to {word().title()} Smith, {word()}@example.org, card {card()}.")
    return {
        "model": "ringfence",
        "messages": [
            {"role": "system", "content": text(f"You know {word()}."), "name": word()},
            {"role": "user", "content": [{"type": "text", "text": told}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": word(),
                        "type": "function",
                        "function": {"name": word(), "arguments": json.dumps({word(): card()})},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": word(), "content": text(f"{word()}: {card()}")},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": word(),
                    "description": word(),
                    "parameters": {"type": "object", "properties": {word(): {"enum": [word()]}}},
                },
            }
        ],
        "user": word(),
        "metadata": {word(): word()},
        "stop": [word()],
        word(): {"deep": [int(card())]},
        "max_tokens": 4,
    }


def _repeats(recorded: Recorded) -> Reply:
    """The local stand-in: repeats the last message, not at all sure of it."""
    try:
        last = json.loads(recorded.body)["messages"][-1]["content"]
    except (ValueError, KeyError):
        return Reply(body=b'{"object":"list","data":[]}')
    said = last if isinstance(last, str) else json.dumps(last)
    token = {"token": said, "logprob": -5.0, "bytes": list(said.encode()), "top_logprobs": []}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "finish_reason": "stop",
        "logprobs": {"content": [token]},
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = {"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps({"id": "c", "created": 0, **answer}).encode())


def _cloud(canaries: Canaries) -> Callable[[Recorded], Reply]:
    """The cloud stand-in: canaries in its names and headers; each fifth reply is a fault."""
    number = itertools.count()

    def reply(recorded: Recorded) -> Reply:
        headers = (("content-type", "application/json"), ("x-request-id", canaries.word()))
        match next(number) % 5:
            case 0:
                body = json.dumps({"error": {"message": canaries.word(), "code": canaries.word()}})
                return Reply(500, body.encode(), headers)
            case 1:
                return Reply(200, canaries.word().encode(), headers)
            case _:
                answer = json.loads(_repeats(recorded).body or b"")
                answer |= {"model": canaries.word(), "id": canaries.word()}
                answer["choices"][0]["finish_reason"] = canaries.word()
                return Reply(200, json.dumps(answer).encode(), headers)

    return reply


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries(seed=20261124)


@pytest.fixture(scope="module")
def cloud(canaries: Canaries) -> Iterator[StandInCloud]:
    with StandInCloud(reply=_cloud(canaries)) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(cloud: StandInCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """A proxy whose home and folder for temporary files lie among what is searched."""
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "tmp").mkdir()
    with StandInCloud(reply=_repeats) as local:
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local.base_url,
            "RINGFENCE_EXPOSE_METRICS": "true",
            "RINGFENCE_INSPECTION_TIMEOUT_S": "30",
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder),
        }
        with running_proxy(folder, cloud.base_url, env) as running:
            yield running


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_planted_string_in_any_byte_that_was_written(
    proxy: RunningProxy, cloud: StandInCloud, canaries: Canaries
) -> None:
    requests = [a_request(number, canaries) for number in range(NUM_REQUESTS)]

    def send(mine: list[Sent]) -> Counter[int]:
        with httpx2.Client(trust_env=False, timeout=300, base_url=proxy.url) as wire:
            return Counter(
                wire.post(
                    path, content=body, headers={"content-type": "application/json", **headers}
                ).status_code
                for path, body, headers in mine
            )

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        shares = [requests[at::NUM_CLIENTS] for at in range(NUM_CLIENTS)]
        statuses = sum(pool.map(send, shares), Counter[int]())
    metrics = httpx2.get(f"{proxy.url}/metrics", trust_env=False).content

    search = canaries.searcher()
    assert search.find(cloud.received), "the search finds what went over the wire"
    folder = proxy.log_path.parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = Counter[str]()
    found = search.find(metrics)
    for path in files:
        data = path.read_bytes()
        sizes[path.relative_to(folder).parts[0]] += len(data)
        found |= search.find(data, binary=b"\0" in data[:4096])
    kinds = Counter(str(record["kind"]) for record in proxy.records())
    print(f"\n{len(canaries.planted):,} canaries, {len(requests):,} requests: {dict(statuses)}")
    print(f"records {dict(kinds)}; bytes searched {dict(sizes)} and {len(metrics)} of /metrics")
    assert found == set()
    assert kinds["decision"] >= 0.6 * NUM_REQUESTS
    assert kinds["egress.intent"] == len(cloud.requests) >= 0.1 * NUM_REQUESTS
    assert {path.name for path in files} >= {"log.jsonl", "pins.sqlite3"}
    assert min(statuses[status] for status in (200, 400, 404)) > 0
