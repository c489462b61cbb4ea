"""From a question to a trained model: a proxy that keeps answers, their export, the fine-tuning."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.capture_keys import make_capture_key
from audit.captures import erase_body
from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion
from proxy.cli import app
from proxy.learning.pairs import read_pairs
from tests.harness import ringfence, running_proxy, write_policy
from tests.proxy.learning.tiny import make_model

KEEPS = ("\nrules:", "\nrecord: {train_on_answers: true}\nrules:")

#: What is asked, and what the stand-in cloud answers.
TALK = {
    "Why is the sky blue?": "Small particles scatter blue light the most.",
    "Why is snow white?": "It scatters light of every colour.",
    "Why is grass green?": "Jane Miller, jane.miller@mail.example, can tell you.",
    "Why is coal black?": "It takes in nearly all light.",
    "My name is Jane Miller, and my mail is jane.miller@mail.example.": "Hello.",
}
SECRET = b"jane.miller"


def words_of(said: str) -> str:
    """What a command says, in one line and without its frame."""
    return " ".join(said.replace("\u2502", " ").split())


@dataclass(frozen=True)
class Kept:
    """A ledger with exchanges, one of them erased, and the auditor's private key."""

    ledger: Path
    key: Path
    policy: Path
    intents: tuple[str, ...]

    def export(self, out: Path, *more: str) -> tuple[int, str]:
        """Run the command; gives its exit code and what it says."""
        where = ("--ledger", str(self.ledger), "--key", str(self.key), "--out", str(out))
        done = ringfence("train-data", "export", *where, *more)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def kept(local_url: str, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    public = make_capture_key(folder / "auditor").rename(folder / "proxy.pub")

    def reply(request: Recorded) -> Reply:
        question = json.loads(request.body)["messages"][-1]["content"]
        return Reply(200, completion(TALK[question], "gpt-4o-mini"))

    with StandInCloud() as cloud:
        cloud.reply = reply
        policy = write_policy(folder, cloud.base_url, [KEEPS])
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local_url,
            "RINGFENCE_CAPTURE_KEY_FILE": str(public),
            "RINGFENCE_POLICY_FILE": str(policy),
        }
        with running_proxy(folder, cloud.base_url, env) as proxy:
            for question in TALK:
                proxy.ask(question)
            proxy.ask("Why is the sky blue?", stream=False)  # once more
            intents = [str(one["id"]) for one in proxy.records("egress.intent")]
        (loaded,) = {json.dumps(one["detail"]) for one in proxy.records("policy.loaded")}
        assert json.loads(loaded)["train_on_answers"] is True
    ledger = folder / "data" / "ledger"
    key = folder / "auditor" / "capture.key"
    erase_body(ledger, folder / "data" / "keys", intents[3], "gdpr_art_17", "jane")
    return Kept(ledger, key, policy, tuple(intents))


@pytest.mark.timeout(400)
def test_what_was_escalated_and_harmless_becomes_pairs_that_the_fine_tuning_takes(
    kept: Kept, tmp_path: Path
) -> None:
    assert len(kept.intents) == 5  # the person's own words stayed home
    out = tmp_path / "pairs.jsonl"
    code, said = kept.export(out, "--json")
    assert code == 0, said
    assert json.loads(said) == {
        "pairs": 2,
        "left_out": {"erased": 1, "found_now": 1, "repeated": 1},
    }
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    pairs = read_pairs(out)
    asked = list(TALK)[:2]
    assert [pair.messages for pair in pairs] == [(("user", question),) for question in asked]
    assert [pair.answer for pair in pairs] == [TALK[question] for question in asked]
    told = [json.loads(line)["provenance"] for line in out.read_text().splitlines()]
    assert [one["intent_id"] for one in told] == list(kept.intents[:2])
    assert {one["model"] for one in told} == {"gpt-4o-mini"}
    assert SECRET not in out.read_bytes()

    again = tmp_path / "again.jsonl"
    assert kept.export(again, "--policy", str(kept.policy))[0] == 0
    assert again.read_bytes() == out.read_bytes()

    base = make_model(tmp_path / "base")
    model = ("--model", str(base), "--out", str(tmp_path / "model"), "--epochs", "1")
    done = ringfence("finetune", "--data", str(out), *model, "--layers", "1")
    assert done.returncode == 0, done.stderr
    assert "2 pairs" in done.stdout


def test_nothing_is_written_over_and_no_pair_makes_no_file(kept: Kept, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    out.write_text("mine")
    code, said = kept.export(out)
    assert (code, out.read_text()) == (2, "mine")
    assert "there already" in words_of(said)
    for more in (("--app", "nobody"), ("--since", "2100-01-01"), ("--until", "2020-01-01")):
        code, said = kept.export(tmp_path / "none.jsonl", *more)
        assert (code, said.strip()) == (1, "0 pairs")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--may-hold", "LOCATON"), 2, "no detector finds"),
        (("--policy", "policies/default.yaml"), 1, "does not say `record: {train_on_answers"),
        (("--ledger", "/nowhere"), 1, "Not exported: "),
        (("--ledger", "postgresql://somewhere/x"), 2, "for a ledger in files"),
        (("--key", "pyproject.toml"), 1, "holds no private key"),
    ],
)
def test_says_why_it_exports_nothing(
    more: tuple[str, ...], code: int, says: str, kept: Kept, tmp_path: Path
) -> None:
    got, said = kept.export(tmp_path / "pairs.jsonl", *more)
    assert got == code
    assert says in words_of(said)
    assert not (tmp_path / "pairs.jsonl").exists()


def test_it_has_its_place_among_the_commands() -> None:
    shown = CliRunner().invoke(app, ["train-data", "--help"])
    assert (shown.exit_code, "export" in shown.output) == (0, True)
