"""The unmodified `openai` client, sound and pictures: each at the local endpoint that can.

The endpoints are stand-ins, and no models; a recording stand-in plays the cloud beside them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from demo.stand_in_cloud import ANSWER, SOUND, Recorded, Reply, StandInCloud
from proxy.api.wire import read_form_body
from proxy.routes.form import Form
from tests.harness import RunningProxy, free_port, running_proxy, write_policy

pytestmark = pytest.mark.slow

CLEAN = "Name the longest river in Europe."
SECRET = "Write to jane.doe@example-mail.com."
KEY = "lk-for-home"
#: What the proxy asks the endpoint for words by itself.
PROBE = b"Name a river, a color and a number."
CLOUD_IF_DOWN = ("on_local_failure: refuse", "on_local_failure: cloud")


def wants_key(recorded: Recorded) -> Reply:
    """Answer whoever has the key of the local tier."""
    told = {name.lower(): value for name, value in recorded.headers}
    return Reply() if told.get("authorization") == f"Bearer {KEY}" else Reply(401, b"{}")


@dataclass
class House:
    """A proxy, the endpoints of its local tier, and a cloud."""

    proxy: RunningProxy
    words: StandInCloud
    mouth: StandInCloud
    ears: StandInCloud
    easel: StandInCloud
    cloud: StandInCloud

    @property
    def asked(self) -> dict[str, list[str]]:
        """The paths that each endpoint was asked for, without the proxy's own probing."""
        told = {}
        for name in ("words", "mouth", "ears", "easel", "cloud"):
            requests = getattr(self, name).requests
            told[name] = [r.path for r in requests if r.body and PROBE not in r.body]
        return {name: paths for name, paths in told.items() if paths}


@pytest.fixture(scope="module")
def _house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("media")
    with contextlib.ExitStack() as stack:
        words, mouth, ears, easel = (stack.enter_context(StandInCloud(wants_key)) for _ in range(4))
        cloud = stack.enter_context(StandInCloud())
        env = {
            "RINGFENCE_LOCAL_BASE_URL": words.base_url,
            "RINGFENCE_LOCAL_API_KEY": KEY,
            "RINGFENCE_LOCAL_MODEL": "words-1",
            "RINGFENCE_SPEECH_BASE_URL": mouth.base_url,
            "RINGFENCE_SPEECH_MODEL": "mouth-1",
            "RINGFENCE_TRANSCRIPTION_BASE_URL": ears.base_url,
            "RINGFENCE_TRANSCRIPTION_MODEL": "ears-1",
            "RINGFENCE_IMAGES_BASE_URL": easel.base_url,
            "RINGFENCE_IMAGES_MODEL": "easel-1",
            "RINGFENCE_POLICY_FILE": str(write_policy(folder, cloud.base_url, [CLOUD_IF_DOWN])),
        }
        proxy = stack.enter_context(running_proxy(folder, cloud.base_url, env))
        yield House(proxy, words, mouth, ears, easel, cloud)


@pytest.fixture
def house(_house: House) -> House:
    """The house, with nothing recorded yet."""
    for endpoint in (_house.words, _house.mouth, _house.ears, _house.easel, _house.cloud):
        endpoint.requests.clear()
        endpoint.reply = wants_key if endpoint is not _house.cloud else lambda _: Reply()
    return _house


def model_in(recorded: Recorded) -> object:
    """The model that an endpoint was asked for."""
    kind = {name.lower(): value for name, value in recorded.headers}["content-type"]
    if kind == "application/json":
        return json.loads(recorded.body)["model"]
    return read_form_body(recorded.body, kind.encode(), Form("audio", 64, 4096))["model"]


Call = Callable[[openai.OpenAI], Any]
CALLS: dict[str, tuple[Call, str, str]] = {
    "/v1/audio/speech": (
        lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input=CLEAN),
        "mouth",
        "mouth-1",
    ),
    "/v1/audio/transcriptions": (
        lambda client: client.audio.transcriptions.create(model="w", file=("a.wav", b"RIFF")),
        "ears",
        "ears-1",
    ),
    "/v1/audio/translations": (
        lambda client: client.audio.translations.create(model="w", file=("a.wav", b"RIFF")),
        "ears",
        "ears-1",
    ),
    "/v1/images/generations": (
        lambda client: client.images.generate(model="gpt-image-1", prompt=CLEAN),
        "easel",
        "easel-1",
    ),
    "/v1/images/edits": (
        lambda client: client.images.edit(image=[b"PNG"], prompt=CLEAN),
        "easel",
        "easel-1",
    ),
    "/v1/images/variations": (
        lambda client: client.images.create_variation(image=b"PNG"),
        "easel",
        "easel-1",
    ),
}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("path", CALLS)
def test_each_route_is_answered_by_its_own_endpoint_and_model(path: str, house: House) -> None:
    call, name, model = CALLS[path]
    with house.proxy.client as client:
        call(client)
    assert house.asked == {name: [path]}
    (recorded,) = [r for r in getattr(house, name).requests if r.body]
    assert model_in(recorded) == model
    assert house.proxy.records("decision")[-1]["api_route"] == path.removeprefix("/v1/").replace(
        "/", "."
    )


def test_words_go_where_they_went(house: House) -> None:
    house.proxy.ask(SECRET)
    assert house.asked == {"words": ["/v1/chat/completions"]}
    assert model_in(house.words.requests[-1]) == "words-1"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("status", [500, 404, 302])
def test_an_endpoint_that_cannot_is_replaced_by_nobody(
    status: int, path: str, house: House
) -> None:
    call, name, _ = CALLS[path]
    away = (("location", f"{house.cloud.base_url}{path}"),)
    getattr(house, name).reply = lambda _: Reply(status, b"{}", away)
    with house.proxy.client as client, pytest.raises(openai.APIStatusError) as caught:
        call(client)
    unable = status == 404
    assert caught.value.status_code == (400 if unable else 503)
    if unable:
        setting = {"mouth": "SPEECH", "ears": "TRANSCRIPTION", "easel": "IMAGES"}[name]
        assert f"RINGFENCE_{setting}_BASE_URL" in caught.value.message
    assert house.asked == {name: [path]}


def test_a_text_that_policy_pins_is_read_aloud_at_home(house: House) -> None:
    with house.proxy.client as client:
        sound = client.audio.speech.create(model="tts-1", voice="alloy", input=SECRET)
    assert (sound.content, sound.response.headers["content-type"]) == (SOUND, "audio/mpeg")
    assert house.asked == {"mouth": ["/v1/audio/speech"]}
    assert house.proxy.records("decision")[-1]["routing"]["reason"] == "pinned"  # type: ignore[index]
    assert b"jane.doe" not in house.proxy.everything_written()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'{"error": "canary-4711"}'),
        Reply(body=b"data: canary-4711\n\n", headers=(("content-type", "text/event-stream"),)),
        Reply(body=b"", headers=(("content-type", "audio/mpeg"),)),
        Reply(body=b"RIFF", headers=()),
        Reply(body=b"x" * (33 * 2**20), headers=(("content-type", "audio/wav"),)),
        Reply(body=b"RIFF" * 9, headers=(("content-type", "audio/wav"),), cut=True),
    ],
    ids=["JSON", "events", "nothing", "of no kind", "too large", "cut off"],
)
def test_what_is_no_sound_is_not_passed_on(reply: Reply, house: House) -> None:
    house.mouth.reply = lambda _: reply
    with house.proxy.client as client, pytest.raises(openai.InternalServerError) as caught:
        client.audio.speech.create(model="tts-1", voice="alloy", input=CLEAN)
    assert caught.value.status_code == 503
    assert "canary" not in caught.value.message
    assert list(house.asked) == ["mouth"]


def test_sound_of_any_bytes_comes_back_and_again_under_its_key(house: House) -> None:
    sound = bytes(range(256)) * 4096
    house.mouth.reply = lambda _: Reply(body=sound, headers=(("content-type", "audio/wav"),))
    with house.proxy.client as client:
        heard = [
            client.audio.speech.create(
                model="tts-1",
                voice="alloy",
                input=CLEAN,
                response_format="wav",
                extra_headers={"Idempotency-Key": "sound-1"},
            )
            for _ in range(2)
        ]
    assert [one.content for one in heard] == [sound, sound]
    assert {one.response.headers["content-type"] for one in heard} == {"audio/wav"}
    assert house.asked == {"mouth": ["/v1/audio/speech"]}


LINES = ("She told him where the keys were", "and the custody hearing was on Monday")
HEARD: dict[str, Any] = {
    "text": " ".join(LINES),
    "segments": [{"id": at, "text": f" {line}"} for at, line in enumerate(LINES)],
    "summary": "Two neighbours agree on a fence, after one of them sold the orchard behind it.",
}
JUDGED = "The writer fears the older landlord, who had both locks changed on Sunday."
TOLD: dict[str, tuple[Call, str, Any, tuple[str, ...]]] = {
    "lines and more of a recording": (
        lambda client: client.audio.transcriptions.create(
            model="w", file=("a.wav", b"RIFF"), response_format="verbose_json"
        ),
        "ears",
        HEARD,
        (*LINES, HEARD["text"], HEARD["summary"]),
    ),
    "why a text was judged as it was": (
        lambda client: client.moderations.create(input="I am Jane Doe, jane.doe@example-mail.com."),
        "words",
        {"id": "m", "model": "m", "results": [{"flagged": True, "reason": JUDGED}]},
        (JUDGED, f"Is this so? {JUDGED}"),
    ),
    "what a picture shows": (
        lambda client: client.images.generate(prompt="Jane Doe, jane.doe@example-mail.com"),
        "easel",
        {"created": 1, "data": [{"b64_json": "aGk=", "caption": JUDGED.replace("older", "tall")}]},
        (JUDGED.replace("older", "tall"),),
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_whatever_is_said_in_an_answer_to_a_pinned_request_stays_too(
    name: str, house: House
) -> None:
    call, endpoint, answer, texts = TOLD[name]
    with house.proxy.client as client:
        for text in texts:  # nobody said it yet
            assert action_for(client, house, text) == "allow"
        getattr(house, endpoint).reply = lambda _: Reply(body=json.dumps(answer).encode())
        call(client)
        getattr(house, endpoint).reply = wants_key
        house.cloud.requests.clear()
        assert {action_for(client, house, text) for text in texts} == {"local_only"}
    assert house.cloud.requests == []


def action_for(client: openai.OpenAI, house: House, text: str) -> object:
    """What policy says to a question that carries ``text``."""
    client.chat.completions.create(model="ringfence", messages=[{"role": "user", "content": text}])
    record: Any = house.proxy.records("decision")[-1]
    return record["policy"]["action"]


def test_text_of_a_recording_is_text(house: House) -> None:
    with house.proxy.client as client:
        text = client.audio.transcriptions.create(
            model="w", file=("a.wav", b"RIFF-text"), response_format="text"
        )
    assert str(text) == f"{ANSWER}\n"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_where_policy_blocks_what_nobody_can_inspect_no_endpoint_gets_it(
    house: House, tmp_path: Path
) -> None:
    edits = [
        CLOUD_IF_DOWN,
        ("on_unscannable: local_only", "on_unscannable: block"),
        ("action: local_only, rule: on_unscannable", "action: block, rule: on_unscannable"),
    ]
    env = {
        "RINGFENCE_LOCAL_BASE_URL": house.words.base_url,
        "RINGFENCE_LOCAL_API_KEY": KEY,
        "RINGFENCE_TRANSCRIPTION_BASE_URL": house.ears.base_url,
        "RINGFENCE_TRANSCRIPTION_MODEL": "ears-1",
        "RINGFENCE_IMAGES_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
        "RINGFENCE_IMAGES_MODEL": "easel-1",
        "RINGFENCE_POLICY_FILE": str(write_policy(tmp_path, house.cloud.base_url, edits)),
    }
    with running_proxy(tmp_path, house.cloud.base_url, env) as proxy, proxy.client as client:
        for path in ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"):
            with pytest.raises(openai.BadRequestError) as blocked:
                CALLS[path][0](client)
            assert blocked.value.code == "blocked_by_policy"
        with pytest.raises(openai.InternalServerError) as down:  # and nobody paints there
            CALLS["/v1/images/generations"][0](client)
        assert down.value.status_code == 503
    assert house.asked == {}
