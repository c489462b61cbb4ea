"""What `ringfence check` says of good and bad settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from proxy.commands.check import Remark, run_checks
from proxy.policy.switch import EgressSwitch
from proxy.settings import Settings, load_settings
from tests.harness import ROOT, free_port, write_policy
from tests.proxy.local.test_openai_http import an_answer
from tests.proxy.policy.signing import Persons
from tests.proxy.routing.tables import a_chain
from tests.proxy.routing.test_plan import a_plan

POLICY = str(ROOT / "policies" / "default.yaml")


def settings(folder: Path, **more: str) -> Settings:
    """Settings whose local tier is a port where nobody answers."""
    return load_settings(
        {
            "RINGFENCE_POLICY_FILE": POLICY,
            "RINGFENCE_DATA_DIR": str(folder / "data"),
            "RINGFENCE_LOCAL_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
            **more,
        }
    )


async def remarks(settings: Settings) -> dict[str, Remark]:
    return {remark.what: remark for remark in await run_checks(settings)}


async def test_says_that_nothing_leaves_in_the_shadow(tmp_path: Path) -> None:
    env = {"RINGFENCE_ROUTING_MODE": "shadow", "RINGFENCE_CLOUD_API_KEY": "key"}
    assert "nothing leaves" in (await remarks(settings(tmp_path, **env)))["cloud"].says


async def test_names_each_thing_that_keeps_it_from_running(tmp_path: Path) -> None:
    broken = tmp_path / "policy.yaml"
    broken.write_text("version: 1\nrulez: []\n")
    said = await remarks(settings(tmp_path, RINGFENCE_POLICY_FILE=str(broken)))
    assert said["policy"].level == "bad"
    assert "policy.yaml:2" in said["policy"].says
    assert said["local tier"].level == "bad"
    assert said["records"].level == "good"


async def test_says_that_it_is_local_only_without_a_key(tmp_path: Path) -> None:
    assert (await remarks(settings(tmp_path)))["cloud"].says == "local-only: no OPENAI_API_KEY"


async def test_names_destinations_and_shows_no_key(tmp_path: Path) -> None:
    said = await remarks(settings(tmp_path, OPENAI_API_KEY="sk-canary-4711"))
    assert "https://api.openai.com/v1" in said["cloud"].says
    assert "canary" not in repr(said)


async def test_says_where_one_key_goes_to_several_hosts_and_where_there_is_none(
    tmp_path: Path,
) -> None:
    policy = write_policy(tmp_path, None)
    text = policy.read_text()
    first = text.split("destinations:\n")[1].split("\nrules:")[0]
    second = first.replace("127.0.0.1:9", "127.0.0.1:10").replace("id: openai", "id: second")
    policy.write_text(text.replace(first, first + second))
    here = {"RINGFENCE_POLICY_FILE": str(policy)}
    said = await remarks(settings(tmp_path, **here, OPENAI_API_KEY="sk-canary-4711"))
    assert said["credentials"].level == "note"
    assert said["credentials"].says.startswith("one key for 127.0.0.1:10, 127.0.0.1:9: ")
    keys = tmp_path / "credentials.yaml"
    keys.write_text("credentials:\n  - {origin: 'http://127.0.0.1:9', key: sk-canary-4711}\n")
    keys.chmod(0o644)
    here |= {"RINGFENCE_CREDENTIALS_FILE": str(keys), "OPENAI_API_KEY": "sk-unused"}
    told = (await remarks(settings(tmp_path, **here)))["credentials"]
    assert "none for second, where nothing is sent; others on this machine" in told.says
    keys.chmod(0o600)
    told = (await remarks(settings(tmp_path, **here)))["credentials"]
    assert told.says.endswith("none for second, where nothing is sent")
    keys.write_text("credentials:\n  - {origin: 'http://127.0.0.1:9', key: 'sk-canary 4711'}\n")
    said = await remarks(settings(tmp_path, **here))
    assert said["credentials"].level == "bad"
    assert "local tier" not in said  # it is not asked without the key that it may want
    assert "canary" not in repr(said)


async def test_says_that_egress_is_switched_off(tmp_path: Path) -> None:
    here = settings(tmp_path, OPENAI_API_KEY="sk-1")
    EgressSwitch(here.data_dir).turn_off("sec", "incident 7")
    assert (await remarks(here))["cloud"].says == "switched off (sec): nothing leaves"


async def test_shows_what_the_policy_keeps(tmp_path: Path) -> None:
    said = await remarks(settings(tmp_path))
    assert said["policy"].level == "good"
    assert "local_only" in said["would refuse or keep"].says
    assert said["otherwise"].says == "allow"


async def test_finds_the_embedded_model_missing(tmp_path: Path) -> None:
    here = settings(tmp_path, RINGFENCE_LOCAL_BASE_URL="", RINGFENCE_MODEL_DIR=str(tmp_path))
    assert "ringfence model pull" in (await remarks(here))["local tier"].says


async def test_a_local_tier_that_answers_is_good(local_url: str, tmp_path: Path) -> None:
    said = await remarks(settings(tmp_path, RINGFENCE_LOCAL_BASE_URL=local_url))
    assert said["local tier"].level == "good"
    assert (
        said["log-probabilities"].says == "beside tools: unable; in streams: yes; alternatives: yes"
    )


def wants_key(recorded: Recorded) -> Reply:
    """A local endpoint that answers whoever has its key."""
    if ("authorization", "Bearer lk-canary-1") in [(n.lower(), v) for n, v in recorded.headers]:
        return Reply(body=json.dumps(an_answer()).encode())
    return Reply(status=401, body=b"{}")


async def test_a_local_tier_that_wants_a_key_is_asked_with_it(tmp_path: Path) -> None:
    with StandInCloud(wants_key) as there:
        here = {"RINGFENCE_LOCAL_BASE_URL": there.base_url}
        for key, level in (("lk-canary-1", "good"), ("lk-canary-2", "bad"), ("", "bad")):
            said = await remarks(settings(tmp_path, **here, RINGFENCE_LOCAL_API_KEY=key))
            assert said["local tier"].level == level
            assert ("RINGFENCE_LOCAL_API_KEY" in said["local tier"].says) is (level == "bad")
            assert ("log-probabilities" in said) is (level == "good")
            assert "canary" not in repr(said)


async def test_a_local_tier_that_lists_no_models_is_bad(tmp_path: Path) -> None:
    with StandInCloud(lambda _: Reply(status=404, body=b"{}")) as there:
        said = await remarks(settings(tmp_path, RINGFENCE_LOCAL_BASE_URL=there.base_url))
    assert said["local tier"].says == f"{there.base_url} lists no models: status 404"


@pytest.mark.parametrize(
    ("status", "level", "says"),
    [
        (200, "good", "answers"),
        (401, "bad", "RINGFENCE_LOCAL_API_KEY"),
        (404, "note", "lists no models: status 404"),
    ],
)
async def test_says_whether_each_endpoint_of_its_own_is_there(
    status: int, level: str, says: str, tmp_path: Path
) -> None:
    env = {}
    with StandInCloud(lambda _: Reply(status=status, body=b"{}")) as there:
        for name in ("EMBEDDING", "SPEECH", "TRANSCRIPTION", "IMAGES"):
            env[f"RINGFENCE_{name}_BASE_URL"] = there.base_url
            env[f"RINGFENCE_{name}_MODEL"] = f"model-of-{name.lower()}"
        said = await remarks(settings(tmp_path, **env))
    for name in ("embedding", "speech", "transcription", "images"):
        remark = said[f"local {name}"]
        assert (remark.level, says in remark.says) == (level, True)
        assert f"(model-of-{name})" in remark.says
    assert not any(request.body for request in there.requests)


async def test_says_which_endpoint_of_its_own_is_not_there(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    env = {"RINGFENCE_SPEECH_BASE_URL": nobody, "RINGFENCE_SPEECH_MODEL": "mouth"}
    said = await remarks(settings(tmp_path, **env))
    assert said["local speech"].says == f"{nobody} (mouth) does not answer"
    assert "local images" not in said
    embedded = {"RINGFENCE_LOCAL_BASE_URL": "", "RINGFENCE_IMAGES_MODEL": "easel"}
    said = await remarks(settings(tmp_path, **embedded))
    assert said["local images"].level == "bad"
    assert "RINGFENCE_IMAGES_BASE_URL" in said["local images"].says


async def test_a_local_endpoint_that_is_a_cloud_is_bad(tmp_path: Path) -> None:
    with StandInCloud() as there:
        env = {
            "RINGFENCE_POLICY_FILE": str(write_policy(tmp_path, there.base_url)),
            "RINGFENCE_IMAGES_MODEL": "easel",
        }
        assert "at home" not in await remarks(settings(tmp_path, **env))
        env["RINGFENCE_IMAGES_BASE_URL"] = there.base_url
        said = (await remarks(settings(tmp_path, **env)))["at home"]
    assert said.level == "bad"
    assert said.says == f"{there.base_url} is destination openai: what must stay leaves"


async def test_an_estimator_or_threshold_that_cannot_be_is_bad(tmp_path: Path) -> None:
    for more in ({"RINGFENCE_ESTIMATOR": "vibes"}, {"RINGFENCE_CONFIDENCE_THRESHOLD": "0.5"}):
        assert (await remarks(settings(tmp_path, **more)))["confidence"].level == "bad"
    good = await remarks(settings(tmp_path, RINGFENCE_ESTIMATOR="min"))
    assert good["confidence"].says == "min below -3 escalates; not calibrated"


async def test_a_file_in_the_way_of_the_records_is_bad(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert (await remarks(settings(tmp_path)))["records"].level == "bad"


async def test_says_who_signed_the_policy_and_that_nobody_did(tmp_path: Path) -> None:
    policy = tmp_path / "default.yaml"
    policy.write_text(Path(POLICY).read_text())
    persons = Persons(tmp_path / "trust", "jane")
    trusting = {
        "RINGFENCE_POLICY_FILE": str(policy),
        "RINGFENCE_POLICY_TRUST_DIR": str(persons.trust),
    }
    unsigned = (await remarks(settings(tmp_path, **trusting)))["signatures"]
    assert (unsigned.level, unsigned.says.startswith("unsigned: ")) == ("bad", True)
    persons.sign(policy, "jane")
    assert (await remarks(settings(tmp_path, **trusting)))["signatures"].says == "of jane"
    assert (await remarks(settings(tmp_path)))["signatures"].level == "note"


async def test_says_whether_answers_can_be_kept_that_policy_wants_kept(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(Path(POLICY).read_text() + "\nrecord: {train_on_answers: true}\n")
    keeping = {"RINGFENCE_POLICY_FILE": str(policy)}
    assert (await remarks(settings(tmp_path, **keeping)))["answers"].level == "bad"
    keeping["RINGFENCE_CAPTURE_KEY_FILE"] = str(tmp_path / "capture.pub")
    assert (await remarks(settings(tmp_path, **keeping)))["answers"].level == "good"
    assert "answers" not in await remarks(settings(tmp_path))


async def test_says_which_costs_are_known(tmp_path: Path) -> None:
    assert "unknown" in (await remarks(settings(tmp_path)))["costs"].says
    (tmp_path / "prices.yaml").write_text(
        "usd_per_1k_tokens:\n  openai: {gpt-4o-mini: {input: 0.03, output: 0.06}}\n"
    )
    (tmp_path / "budgets.yaml").write_text("overall: {day_usd: 1}\n")
    env = {
        "RINGFENCE_PRICES_FILE": str(tmp_path / "prices.yaml"),
        "RINGFENCE_BUDGETS_FILE": str(tmp_path / "budgets.yaml"),
    }
    said = (await remarks(settings(tmp_path, **env)))["costs"]
    assert (said.level, said.says.endswith("stay at home: openai")) == ("note", True)
    assert "too small" not in said.says
    small = "overall: {day_usd: 1}\nteams: {sales: {month_usd: 0.2}, law: {day_usd: 0.3}}\n"
    (tmp_path / "budgets.yaml").write_text(small)
    said = (await remarks(settings(tmp_path, **env)))["costs"]  # 4,096 tokens cost 0.25 dollars
    assert (said.level, said.says.endswith("nothing may leave: teams.sales")) == ("note", True)
    (tmp_path / "budgets.yaml").write_text("overall: {day_usd: 0}\n")
    assert (await remarks(settings(tmp_path, **env)))["costs"].level == "bad"


async def test_shows_the_models_of_a_chain_and_those_that_nobody_has(tmp_path: Path) -> None:
    env = {"RINGFENCE_LOCAL_MODEL": "local", "RINGFENCE_RUNGS_FILE": str(tmp_path / "rungs.json")}
    a_chain("gpt-4o-mini", "gpt-4o").save(tmp_path / "rungs.json")
    said = (await remarks(settings(tmp_path, **env)))["confidence"]
    assert (said.level, "then gpt-4o-mini (below -0.5), gpt-4o" in said.says) == ("good", True)
    a_chain("gpt-4o-mini", "gpt-9").save(tmp_path / "rungs.json")
    said = (await remarks(settings(tmp_path, **env)))["confidence"]
    assert (said.level, said.says) == ("bad", "no destination of the policy has gpt-9")


async def test_shows_the_plan_for_batches_and_what_keeps_it_from_being_one(tmp_path: Path) -> None:
    assert "batches" not in await remarks(settings(tmp_path))
    (tmp_path / "prices.yaml").write_text("usd_per_1k_tokens: {}\n")
    env = {
        "RINGFENCE_LOCAL_MODEL": "home",
        "RINGFENCE_PLAN_FILE": str(tmp_path / "plan.json"),
        "RINGFENCE_PRICES_FILE": str(tmp_path / "prices.yaml"),
        "RINGFENCE_BATCH_BUDGET_USD": "5",
    }
    assert (await remarks(settings(tmp_path, **env)))["batches"].level == "bad"
    a_plan().save(tmp_path / "plan.json")
    said = (await remarks(settings(tmp_path, **env)))["batches"]
    assert (said.level, said.says) == ("bad", "no destination of the policy has cheap, dear")
    known = tuple(
        replace(one, name=name)
        for one, name in zip(a_plan().predictors, ("local", "gpt-4o-mini", "gpt-4o"), strict=True)
    )
    replace(a_plan(), predictors=known).save(tmp_path / "plan.json")
    said = (await remarks(settings(tmp_path, **env)))["batches"]
    assert said.level == "good"
    assert said.says.startswith("planned for $5 each over gpt-4o-mini, gpt-4o, plan_")
    del env["RINGFENCE_BATCH_BUDGET_USD"]
    said = (await remarks(settings(tmp_path, **env)))["batches"]
    assert (said.level, "needs RINGFENCE_BATCH_BUDGET_USD" in said.says) == ("bad", True)
