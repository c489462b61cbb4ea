"""The unmodified `openai` client against a real proxy with its real models, route by route."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from demo.stand_in_cloud import ANSWER, StandInCloud
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


def test_what_never_leaves_is_refused_on_the_record(
    client: openai.OpenAI, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    for call in (
        lambda: client.moderations.create(input=CLEAN),
        lambda: client.images.generate(model="gpt-image-1", prompt=CLEAN),
        lambda: client.audio.speech.create(model="tts-1", voice="alloy", input=CLEAN),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.code == "unsupported_by_local"
    assert cloud.requests == []
    told = [record["api_route"] for record in proxy.records("decision")[-3:]]
    assert told == ["moderations", "images.generations", "audio.speech"]
