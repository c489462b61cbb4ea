"""Each host is shown its own key and no other; where there is none, nothing leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from demo.stand_in_cloud import Reply, StandInCloud
from tests.harness import RunningProxy, running_proxy
from tests.proxy.egress.test_climb import LOW, scored

pytestmark = pytest.mark.slow

QUESTION = "Name the longest river in Europe."
KEYS = {"eu": "sk-of-eu-4711", "us": "sk-of-us-4711", "home": "sk-of-home-4711"}

_POLICY = """version: 1
pack: drill
revision: 1
owner: security@example.com
default: allow
destinations:
"""
_DESTINATION = """  - id: {id}
    provider: openai
    base_url: {url}
    models: [model-of-{id}]
    region: {id}
    transfer: {{recipient: Example Ltd, country: IE, basis: intra_eea, retention: zero}}
"""


@dataclass(frozen=True)
class Scene:
    """A proxy, its endpoint at home, two clouds that it has keys for, and one that it has not."""

    proxy: RunningProxy
    hosts: dict[str, StandInCloud]

    def shown(self, name: str) -> set[str | None]:
        """What this host was shown as a key."""
        headers = [request.headers for request in self.hosts[name].requests]
        return {dict((n.lower(), v) for n, v in one).get("authorization") for one in headers}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("keys")
    with ExitStack() as stack:
        hosts = {
            name: stack.enter_context(StandInCloud()) for name in ("home", "eu", "us", "other")
        }
        unsure = Reply(body=scored("The Volga.", "home", LOW))
        hosts["home"].reply = lambda _: unsure
        policy = folder / "policy.yaml"
        clouds = (_DESTINATION.format(id=n, url=hosts[n].base_url) for n in ("eu", "us", "other"))
        policy.write_text(_POLICY + "".join(clouds))
        credentials = folder / "credentials.yaml"
        entries = (
            f"  - {{origin: '{hosts[name].base_url.removesuffix('/v1')}', key: {key}}}\n"
            for name, key in KEYS.items()
        )
        credentials.write_text("credentials:\n" + "".join(entries))
        env = {
            "RINGFENCE_POLICY_FILE": str(policy),
            "RINGFENCE_LOCAL_BASE_URL": hosts["home"].base_url,
            "RINGFENCE_CREDENTIALS_FILE": str(credentials),
            "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        }
        proxy = stack.enter_context(running_proxy(folder, None, env))
        yield Scene(proxy, hosts)


@pytest.mark.parametrize("name", ["eu", "us"])
def test_each_cloud_is_shown_its_own_key(name: str, scene: Scene) -> None:
    before = len(scene.proxy.records("egress.intent"))
    assert scene.proxy.ask(QUESTION, model=f"model-of-{name}").choices
    (intent,) = scene.proxy.records("egress.intent")[before:]
    assert intent["destination"] == name
    assert scene.shown(name) == {f"Bearer {KEYS[name]}"}
    assert scene.shown("home") == {f"Bearer {KEYS['home']}"}


@pytest.mark.parametrize("stream", [False, True])
def test_where_there_is_no_key_nothing_is_sent_and_home_answers(stream: bool, scene: Scene) -> None:
    before = len(scene.proxy.records("egress.intent"))
    with scene.proxy.client as client:
        answer = client.chat.completions.with_raw_response.create(
            model="model-of-other",
            messages=[{"role": "user", "content": QUESTION}],
            stream=stream,
        )
        assert answer.headers["x-ringfence-route"] == "local"
    decision = scene.proxy.records("decision")[-1]
    routing = decision["routing"]
    assert isinstance(routing, dict)
    assert (routing["reason"], routing["degraded"]) == ("cloud_unavailable", True)
    assert len(scene.proxy.records("egress.intent")) == before
    assert scene.hosts["other"].requests == []


def test_no_key_is_written_anywhere_or_shown_to_a_client(scene: Scene) -> None:
    with scene.proxy.client as client:
        told = client.chat.completions.with_raw_response.create(
            model="model-of-eu", messages=[{"role": "user", "content": QUESTION}]
        )
        assert "4711" not in told.text
        assert "4711" not in repr(told.headers)
    assert b"4711" not in scene.proxy.everything_written()
