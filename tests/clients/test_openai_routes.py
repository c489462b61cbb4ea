"""The unmodified `openai` client against a real proxy with its real models, route by route."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import openai
import pytest

from audit.query import Filter, query
from demo.stand_in_cloud import ANSWER, StandInCloud
from proxy.api.wire import read_form_body
from proxy.policy.switch import EgressSwitch
from proxy.routes.form import Form, file_of
from tests.harness import RunningProxy, running_proxy

pytestmark = pytest.mark.slow

CLEAN = "Name the longest river in Europe."
SECRET = "Write to jane.doe@example-mail.com."


@pytest.fixture(scope="module")
def _cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as running:
        yield running


@pytest.fixture
def cloud(_cloud: StandInCloud) -> StandInCloud:
    _cloud.requests.clear()
    return _cloud


@pytest.fixture(scope="module")
def proxy(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url}
    with running_proxy(tmp_path_factory.mktemp("routes"), _cloud.base_url, env) as running:
        yield running


@pytest.fixture
def client(proxy: RunningProxy) -> Iterator[openai.OpenAI]:
    with proxy.client as made:
        yield made


def last_routing(proxy: RunningProxy) -> dict[str, object]:
    return proxy.records("decision")[-1]["routing"]  # type: ignore[return-value]


def test_a_pinned_completion_is_made_at_home(
    client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    made = client.completions.create(model="ringfence", prompt=SECRET, max_tokens=4, logprobs=2)
    assert made.object == "text_completion"
    assert made.choices[0].logprobs is not None
    assert made.usage is not None
    assert made.usage.completion_tokens <= 4
    assert cloud.requests == []
    assert last_routing(proxy)["reason"] == "pinned"


def test_an_unsure_completion_escalates(client: openai.OpenAI, cloud: StandInCloud) -> None:
    made = client.completions.create(model="ringfence", prompt=CLEAN, max_tokens=4)
    assert made.choices[0].text == ANSWER
    assert [request.path for request in cloud.requests] == ["/v1/completions"]


def test_a_completion_streams(client: openai.OpenAI, cloud: StandInCloud) -> None:
    with client.completions.create(
        model="ringfence", prompt=CLEAN, max_tokens=4, stream=True
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("model", ["ringfence", "all-minilm-l6-v2"])
def test_embeddings_are_made_at_home(
    model: str, client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    for given in (CLEAN, SECRET, [CLEAN, SECRET]):
        made = client.embeddings.create(model=model, input=given)
        assert [len(one.embedding) for one in made.data] == [384] * len(made.data)
        assert made.model == "all-minilm-l6-v2"
    assert cloud.requests == []
    assert last_routing(proxy)["route"] == "local"


def test_vectors_of_a_cloud_model_come_from_there_or_not_at_all(
    client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    made = client.embeddings.create(model="gpt-4o-mini", input=CLEAN)
    assert made.data[0].embedding == [0.6, 0.8]
    assert [request.path for request in cloud.requests] == ["/v1/embeddings"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="gpt-4o-mini", input=SECRET)
    assert caught.value.code == "unsupported_by_local"
    assert len(cloud.requests) == 1
    assert last_routing(proxy)["reason"] == "local_unable"


def test_token_ids_are_unscannable(
    client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="gpt-4o-mini", input=[40, 41])
    assert caught.value.code == "unsupported_by_local"
    assert cloud.requests == []
    coverage = proxy.records("decision")[-1]["coverage"]
    assert coverage["unscannable"] == {"undecodable": 1}  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_what_never_leaves_is_refused_on_the_record(
    client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    for call in (
        lambda: client.moderations.create(input=CLEAN),
        lambda: client.images.generate(model="gpt-image-1", prompt=CLEAN),
        lambda: client.audio.speech.create(model="tts-1", voice="alloy", input=CLEAN),
        lambda: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF")),
        lambda: client.audio.translations.create(model="whisper-1", file=("a.wav", b"RIFF")),
        lambda: client.images.edit(image=[b"PNG", b"PNG"], prompt=CLEAN),
        lambda: client.images.create_variation(image=b"PNG", n=2),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.code == "unsupported_by_local"
    assert "never leaves" in caught.value.message or "never leave" in caught.value.message
    assert cloud.requests == []
    told = [record["api_route"] for record in proxy.records("decision")[-7:]]
    assert told == [
        "moderations",
        "images.generations",
        "audio.speech",
        "audio.transcriptions",
        "audio.translations",
        "images.edits",
        "images.variations",
    ]


@pytest.fixture(scope="module")
def ears(
    _cloud: StandInCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningProxy, StandInCloud]]:
    """A proxy whose local endpoint hears and draws; it is a stand-in, and no model."""
    with StandInCloud() as home:
        env = {"RINGFENCE_LOCAL_BASE_URL": home.base_url, "RINGFENCE_LOCAL_MODEL": "at-home"}
        folder = tmp_path_factory.mktemp("ears")
        with running_proxy(folder, _cloud.base_url, env) as running:
            yield running, home


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_recording_is_heard_at_home(
    ears: tuple[RunningProxy, StandInCloud], cloud: StandInCloud
) -> None:
    proxy, home = ears
    with proxy.client as client:
        made = client.audio.transcriptions.create(
            model="whisper-1",
            file=("call.wav", b"RIFF-sound"),
            prompt=SECRET,
            temperature=0.2,
            language="en",
            timestamp_granularities=["word", "segment"],
        )
        text = client.audio.translations.create(
            model="whisper-1", file=("call.wav", b"RIFF-sound"), response_format="text"
        )
    assert made.text == ANSWER
    assert str(text) == f"{ANSWER}\n"
    heard, plain = [one for one in home.requests if "/audio/" in one.path][-2:]
    assert heard.path == "/v1/audio/transcriptions"
    kind = dict(heard.headers)["content-type"].encode()
    told = read_form_body(heard.body, kind, Form("audio", 64, 4096))
    assert told == {
        "model": "at-home",
        "prompt": SECRET,
        "temperature": "0.2",
        "language": "en",
        "timestamp_granularities[]": ["word", "segment"],
        "file": file_of("audio", "call.wav", "audio/x-wav", b"RIFF-sound"),
    }
    assert b'name="response_format"\r\n\r\njson\r\n' in plain.body
    assert cloud.requests == []
    assert last_routing(proxy)["reason"] == "pinned"


def test_what_was_heard_pins_whoever_quotes_it(
    ears: tuple[RunningProxy, StandInCloud], cloud: StandInCloud
) -> None:
    proxy, _ = ears
    with proxy.client as client:
        made = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF-2"))
    proxy.ask(f"Make a title of this: {made.text}")
    assert cloud.requests == []
    assert str(last_routing(proxy)["derived_from"]).startswith("dec_")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_pictures_are_changed_at_home(
    ears: tuple[RunningProxy, StandInCloud], cloud: StandInCloud
) -> None:
    proxy, home = ears
    with proxy.client as client:
        edited = client.images.edit(
            image=[("a.png", b"PNG-1"), ("b.png", b"PNG-2")], mask=b"PNG-3", prompt=CLEAN, n=1
        )
        varied = client.images.create_variation(image=("a.png", b"PNG-4"))
    assert edited.data
    assert varied.data
    bodies = b"".join(one.body for one in home.requests if "/images/" in one.path)
    assert [bodies.count(b"PNG-%d" % number) for number in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert cloud.requests == []


def test_a_form_that_is_too_large_or_encoded_is_not_read(
    ears: tuple[RunningProxy, StandInCloud],
) -> None:
    proxy, home = ears
    before = len(home.requests)
    with proxy.client as client, pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"x" * 26 * 2**20))
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    kind = {"content-type": "multipart/form-data; boundary=xyz", "content-encoding": "gzip"}
    response = proxy.post_to("/v1/audio/transcriptions", gzip.compress(b"--xyz--"), **kind)
    assert response.status_code == 415
    response = proxy.post_to("/v1/images/edits", b'{"prompt": "a"}')
    assert response.status_code == 415
    assert len(home.requests) == before


def test_an_answer_given_again_is_on_the_record_though_nothing_may_leave_any_more(
    client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    def ask() -> openai.types.Completion:
        return client.completions.create(
            model="ringfence",
            prompt=CLEAN,
            max_tokens=4,
            extra_headers={"Idempotency-Key": "again"},
        )

    first = ask()
    assert len(cloud.requests) == 1
    switch = EgressSwitch(proxy.data_dir)
    switch.turn_off("security", "drill")
    try:
        second = ask()
    finally:
        switch.turn_on()
    assert second == first
    assert len(cloud.requests) == 1
    decided = proxy.records("decision")[-1]
    (again,) = proxy.records("replay")
    assert again["decision_id"] == decided["decision_id"]
    assert again["request_id"] != decided["request_id"]
    assert again["caller"] == decided["caller"]
    (row,) = query(proxy.data_dir / "ledger", Filter(kind="replay"))
    assert (row["decision_id"], row["status"]) == (decided["decision_id"], 200)
