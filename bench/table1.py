"""The paper's Table 1, live: fine-tune the embedded model on one task, calibrate, evaluate.

Run: ``python -m bench.table1 FOLDER --out DIR``, where FOLDER holds ``snips`` (requests to an
assistant, seven intents; github.com/sonos/nlu-benchmark, CC0) or another task of the same form. The
rows are parted into those that train, those that calibrate and those that are scored; with
``--test FOLDER2`` the last come from there. Each step is a command that a user has. A training that
was stopped goes on, and one that is done is not done again.

THE CLOUD IS A STAND-IN: no model, but an accuracy, a latency and prices, as the options say. The
local model, its answers and its times are real. No row is shown.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from proxy.settings import Settings

#: The embedded model's own template without its system prompt: a third of the tokens to read.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class StandIn:
    """A cloud that is not there: shares in [0, 1], ms, and dollars a thousand tokens."""

    accuracy: float = 0.95
    latency_ms: float = 2100.0
    prompt_price: float = 0.03
    answer_price: float = 0.06

    def answer(self, row: dict[str, Any], right: bool, count: Tokenizer) -> dict[str, Any]:
        """What it makes of ``row``; tokens are the local model's."""
        return {
            "answer": row["answers"][0] if right else "",
            "correct": right,
            "elapsed_ms": self.latency_ms,
            "model": "stand-in",
            "prompt_tokens": len(count.encode(f"{row['task']}\n{row['question']}").ids),
            "completion_tokens": len(count.encode(row["answers"][0]).ids),
        }

    def prices(self) -> str:
        """Its price table."""
        price = f"{{input: {self.prompt_price}, output: {self.answer_price}}}"
        return f"usd_per_1k_tokens:\n  stand-in:\n    stand-in: {price}\n"

    def answers(self, rows: Sequence[dict[str, Any]], count: Tokenizer) -> list[dict[str, Any]]:
        """``rows`` with its answers: wrong at the stated share of them, drawn without a look."""
        drawn = sorted(range(len(rows)), key=lambda n: _rank("stand-in", rows[n]["id"]))
        wrong = set(drawn[: round(len(rows) * (1 - self.accuracy))])
        return [
            {**row, "cloud": self.answer(row, n not in wrong, count)} for n, row in enumerate(rows)
        ]


def read_task(root: Path, task: str) -> list[dict[str, Any]]:
    """The rows of a task in an order that has nothing to do with their labels.

    The labels are left out of the question: a model that was fine-tuned knows them.
    """
    with gzip.open(root / task / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    kept = [{k: row[k] for k in ("id", "question", "answers", "task")} for row in rows]
    return sorted(kept, key=lambda row: _rank("order", row["id"]))


def _rank(purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"{purpose}:{name}".encode()).digest()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSON lines; a file that says the same is left as it is."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def run(*arguments: str, **settings: str) -> str:
    """A `ringfence` command; its standard output, which is shown too."""
    print(f"$ ringfence {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(f"{done.stdout}[{time.monotonic() - started:.0f} s]\n", flush=True)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return done.stdout


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Write what each step reads."""
    rows = read_task(options.folder, options.task)
    num_train, num_kept = options.train, options.train + options.calibrate
    others = read_task(options.test, options.task) if options.test else rows[num_kept:]
    scored = others[: options.rows] if options.rows else others
    if {row["question"] for row in rows[:num_kept]} & {row["question"] for row in scored}:
        raise SystemExit("a question is trained or calibrated on, and scored: refused")
    model = Settings().model_dir if options.model == "embedded" else Path(options.model)
    count = Tokenizer.from_file(str(model / "tokenizer.json"))
    stand_in = StandIn(
        options.accuracy, options.latency_ms, options.prompt_price, options.answer_price
    )
    write_rows(folder / "train.jsonl", rows[:num_train])
    write_rows(folder / "calibrate.jsonl", stand_in.answers(rows[num_train:num_kept], count))
    write_rows(folder / "test.jsonl", stand_in.answers(scored, count))
    (folder / "template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "prices.yaml").write_text(stand_in.prices(), encoding="utf-8")


def finetune(options: argparse.Namespace, folder: Path) -> None:
    """Fine-tune, unless it was done."""
    if (folder / "model" / "ringfence-model.json").exists():
        print(f"{folder / 'model'} is there already\n")
        return
    run(
        *("finetune", "--data", str(folder / "train.jsonl"), "--model", options.model),
        *("--out", str(folder / "model"), "--chat-template", str(folder / "template.jinja")),
        *("--epochs", str(options.epochs), "--layers", str(options.layers)),
        *("--learning-rate", str(options.learning_rate), "--seed", str(options.seed)),
    )


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Calibrate and evaluate with the fine-tuned model."""
    env = {
        "RINGFENCE_MODEL_DIR": str(folder / "model"),
        "RINGFENCE_ESTIMATOR": options.estimator,
        "RINGFENCE_PRICES_FILE": str(folder / "prices.yaml"),
    }
    made = folder / "calibration.json"
    run(
        *("calibrate", "--data", str(folder / "calibrate.jsonl"), "--goal", options.goal),
        *("--out", str(made), "--error-rate", str(options.error_rate)),
        **env,
    )
    run(
        *("evaluate", "--data", str(folder / "test.jsonl"), "--out", str(folder / "report")),
        **env,
        RINGFENCE_CALIBRATION_FILE=str(made),
    )


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    usual = StandIn()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("table1"))
    parser.add_argument("--test", type=Path, help="another folder, to score on its rows")
    parser.add_argument("--task", default="snips")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--train", type=int, default=130, help="rows")
    parser.add_argument("--calibrate", type=int, default=80, help="rows")
    parser.add_argument("--rows", type=int, help="score so many only")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimator", default="mean_logprob")
    parser.add_argument("--goal", default="cloud share at most 38%")
    parser.add_argument("--error-rate", type=float, default=0.05)
    parser.add_argument("--accuracy", type=float, default=usual.accuracy)
    parser.add_argument("--latency-ms", type=float, default=usual.latency_ms)
    parser.add_argument("--prompt-price", type=float, default=usual.prompt_price)
    parser.add_argument("--answer-price", type=float, default=usual.answer_price)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every step."""
    options = read_options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    print(
        f"the cloud is a stand-in: {options.accuracy:.0%} right, {options.latency_ms:.0f} ms, "
        f"${options.prompt_price} and ${options.answer_price} a thousand tokens\n"
    )
    prepare(options, options.out)
    finetune(options, options.out)
    measure(options, options.out)


if __name__ == "__main__":
    main()
