"""Fine-tuning learns, resumes to the same weights, and leaves a whole folder or none."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.errors import LocalBackendError, SettingsError
from proxy.learning import finetune as module
from proxy.learning.finetune import Job, finetune
from proxy.learning.recipe import Recipe
from proxy.local.model import is_ready, model_digest, pull
from proxy.routing.artifact import weights_digest
from proxy.routing.calibration import refuse_if_unfit
from proxy.settings import Settings
from tests.harness import model_dir
from tests.proxy.learning.tiny import COLOURS, make_model, write_pairs
from tests.proxy.routing.test_calibration import MADE

RECIPE = Recipe(epochs=3, learning_rate=0.01, batch_size=4, layers=2)


class Interrupted(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "train.jsonl")


@pytest.fixture(scope="module")
def trained(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    finetune(Job(data, base, out, RECIPE))
    return out


def test_the_folder_is_served_and_says_what_it_is_made_of(
    base: Path, data: Path, trained: Path
) -> None:
    assert is_ready(trained)
    told = json.loads((trained / "ringfence-model.json").read_text())
    assert told["base_digest"] == model_digest(base)
    assert (told["num_pairs"], told["num_steps"]) == (24, 18)
    assert told["recipe"]["layers"] == 2
    assert told["data_digest"].startswith("sha256:")
    beside = [path.name for path in trained.parent.iterdir() if not path.name.endswith(".lock")]
    assert beside == ["model"]
    everything = b"".join(p.read_bytes() for p in trained.iterdir() if p.suffix != ".safetensors")
    assert b"Zwirble" not in everything


def test_only_the_upper_layers_change(base: Path, trained: Path) -> None:
    from safetensors.torch import load_file

    old, new = (load_file(folder / "model.safetensors") for folder in (base, trained))
    assert old.keys() == new.keys()
    changed = {name for name in old if not bool((old[name] == new[name]).all())}
    assert {name.split(".")[2] for name in changed if ".layers." in name} == {"2", "3"}
    assert {name for name in changed if ".layers." not in name} <= {"model.norm.weight"}


def test_the_real_model_learns_the_answers_and_to_stop(tmp_path: Path) -> None:
    """Asked through the engine that serves: the same template, the same tokens."""
    from proxy.local.engine import Engine
    from proxy.local.wishes import Sampling

    data = write_pairs(tmp_path / "train.jsonl", 12)
    recipe = Recipe(epochs=4, learning_rate=5e-4, batch_size=4, layers=2)
    result = finetune(Job(data, model_dir(), tmp_path / "model", recipe))
    assert result.loss < 0.5
    engine = Engine(tmp_path / "model", threads=1)
    try:
        question = [("user", "Zwirble 70 is green, as always. Which colour?")]
        told = engine.submit(question, Sampling(max_tokens=8)).done.result(60)
    finally:
        engine.close()
    assert (told.text in COLOURS, told.finish_reason) == (True, "stop")


def test_an_interrupted_run_comes_to_the_same_weights(
    base: Path, data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_S", 0.0)
    job = Job(data, base, tmp_path / "model", RECIPE)

    def stop(stage: str, done: int, whole: int) -> None:
        if (stage, done) == ("training", 11):
            raise Interrupted

    with pytest.raises(Interrupted):
        finetune(job, stop)
    assert not job.out.exists()
    steps: list[int] = []
    result = finetune(job, lambda stage, done, _: steps.append(done) if stage[0] == "t" else None)
    assert steps == list(range(12, 19))
    assert result.digest == model_digest(trained)
    beside = [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")]
    assert beside == ["model"]


@pytest.mark.parametrize("what", ["another recipe", "torn"])
def test_a_state_that_does_not_fit_is_not_gone_on_with(
    what: str, base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_S", 0.0)
    job = Job(data, base, tmp_path / "model", replace(RECIPE, epochs=1))

    def stop(stage: str, done: int, whole: int) -> None:
        if (stage, done) == ("training", 3):
            raise Interrupted

    with pytest.raises(Interrupted):
        finetune(job, stop)
    state = tmp_path / "model.progress"
    if what == "torn":
        state.write_bytes(state.read_bytes()[:1000])
    else:
        job = replace(job, recipe=replace(job.recipe, seed=1))
    steps: list[int] = []
    finetune(job, lambda stage, done, _: steps.append(done) if stage[0] == "t" else None)
    assert steps[0] == 1


def test_what_was_made_for_the_old_model_is_refused_with_the_new_one(
    base: Path, trained: Path
) -> None:
    old = replace(MADE, model_digest=weights_digest(Settings(model_dir=base)))
    assert old.model_digest is not None
    refuse_if_unfit(old, Settings(model_dir=base, local_model="home"))
    with pytest.raises(SettingsError, match="other weights"):
        refuse_if_unfit(old, Settings(model_dir=trained, local_model="home"))


def test_a_template_of_its_own_is_the_models_and_in_its_digest(
    base: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    from proxy.local.engine import chat_ids, load_tokenizer

    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (tmp_path / "t.jinja").write_text(template)
    job = Job(data, base, tmp_path / "model", RECIPE, tmp_path / "t.jinja")
    assert finetune(job).digest != model_digest(trained)
    tokenizer = load_tokenizer(job.out)
    assert tokenizer.decode(chat_ids(tokenizer, [("user", "<|im_end|> 1")])) == "< |im_end|> 1"


def test_a_folder_that_holds_something_is_left_alone(
    base: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="another folder"):
        finetune(Job(data, base, trained, RECIPE))
    with pytest.raises(LocalBackendError, match="another folder"):
        pull(trained, lambda _: None)
    assert is_ready(trained)
    (tmp_path / "a-file").write_text("Dear")
    with pytest.raises(SettingsError, match="another folder"):
        finetune(Job(data, base, tmp_path / "a-file", RECIPE))


def test_pairs_that_are_too_long_are_left_out_and_counted(
    base: Path, data: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, max_tokens=50, epochs=1)
    result = finetune(Job(data, base, tmp_path / "model", recipe))
    assert (result.num_pairs + result.num_too_long, result.num_pairs < 24) == (24, True)
    with pytest.raises(SettingsError, match="max-tokens"):
        finetune(Job(data, base, tmp_path / "other", replace(recipe, max_tokens=2)))
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_trained_is_said_so(data: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalBackendError, match="safetensors"):
        finetune(Job(data, tmp_path, tmp_path / "model", RECIPE))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"")
    with pytest.raises(LocalBackendError, match="can be loaded"):
        finetune(Job(data, tmp_path / "base", tmp_path / "model", RECIPE))
    assert not (tmp_path / "model").exists()


def test_it_keeps_its_state_from_time_to_time(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    seconds = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: started + 7 * next(seconds))
    seen: list[bool] = []
    state = tmp_path / "model.progress"
    job = Job(data, base, tmp_path / "model", RECIPE)
    finetune(job, lambda stage, *_: seen.append(state.exists()) if stage[0] == "t" else None)
    assert not seen[0]
    assert seen[-1]
