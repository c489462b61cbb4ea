"""The one command behind docs/benchmarks/table1.md, on a few rows and an untrained model."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from bench import table1
from proxy.local.model import model_digest
from proxy.routing.calibration import load_calibration
from tests.proxy.learning.tiny import COLOURS, make_model


def write_task(folder: Path, num_rows: int, first: int = 0) -> Path:
    """A made-up task in the form of the evaluation data."""
    (folder / "colours").mkdir(parents=True)
    with gzip.open(folder / "colours" / "data.jsonl.gz", "wt", encoding="utf-8") as file:
        for n in range(first, first + num_rows):
            colour = COLOURS[n % 3]
            row = {"id": f"c{n}", "question": f"Zwirble {n} is {colour}", "answers": [colour]}
            file.write(json.dumps({**row, "task": "Which colour?", "choices": COLOURS}) + "\n")
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a whole run, and what it said."""
    folder = tmp_path_factory.mktemp("table1")
    make_model(folder / "base")
    capture = pytest.MonkeyPatch()
    said: list[str] = []
    run = table1.run

    def listen(*arguments: str, **settings: str) -> str:
        said.append(run(*arguments, **settings))
        return said[-1]

    with capture.context() as patch:
        patch.setattr(table1, "run", listen)
        table1.main(
            [
                *(str(write_task(folder / "data", 40)), "--out", str(folder / "out")),
                *("--task", "colours", "--model", str(folder / "base")),
                *("--train", "8", "--calibrate", "12", "--epochs", "1", "--layers", "1"),
            ]
        )
    return folder / "out", "\n".join(said)


def test_every_step_is_done_and_the_table_is_told(told: tuple[Path, str]) -> None:
    out, said = told
    assert re.search(r"Cloud-only\s+95", said), said
    assert "Local-only" in said
    assert "Hybrid" in said
    assert (out / "report").is_dir()
    assert load_calibration(out / "calibration.json").model_digest == model_digest(out / "model")
    assert "Zwirble" not in said


def test_no_row_is_in_two_parts(told: tuple[Path, str]) -> None:
    parts = [
        [json.loads(line) for line in (told[0] / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "calibrate", "test")
    ]
    assert [len(part) for part in parts] == [8, 12, 20]
    assert len({row["id"] for part in parts for row in part}) == 40
    assert all("cloud" not in row for row in parts[0])


def test_a_question_that_trained_is_not_scored(tmp_path: Path) -> None:
    first, other = (write_task(tmp_path / name, 10, start) for name, start in (("a", 0), ("b", 9)))
    options = table1.read_options(
        [str(first), "--test", str(other), "--task", "colours", "--train", "10"]
    )
    with pytest.raises(SystemExit, match="refused"):
        table1.prepare(options, tmp_path)
    assert not (tmp_path / "test.jsonl").exists()


def test_the_stand_in_is_as_right_and_as_dear_as_it_says() -> None:
    class Two:
        ids = (1, 2)

        def encode(self, _: str) -> Two:
            return self

    rows = [{"id": f"r{n}", "question": "q", "task": "t", "answers": ["a"]} for n in range(200)]
    told = table1.StandIn(0.95).answers(rows, Two())  # type: ignore[arg-type]
    assert sum(row["cloud"]["correct"] for row in told) == 190
    assert told[0]["cloud"]["prompt_tokens"] == 2
    assert "input: 0.03, output: 0.06" in table1.StandIn().prices()
