"""The leak matrix: no planted value leaves, whatever its place, the route, the stream, the fault.

One of each kind of cell by default, on one proxy; ``RINGFENCE_DRILL_MATRIX=full`` for every cell,
under every condition. Each cell stands beside its harmless twin, which shows that it is the value
that keeps a request home. The controls: a proxy that lets all through is seen leaking in every
cell, however it writes what it passes on.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli import app
from proxy.selfcheck.cells import Condition, Probe, all_cells, one_of_each, probes
from proxy.selfcheck.matrix import Outcome, Run, run, searcher_of
from proxy.selfcheck.recorder import Recorder
from proxy.selfcheck.traces import Searcher, readable
from proxy.selfcheck.wire import Target, as_recorded
from tests.drills.matrix import MODELS, by_proxy, proxy_under, stays_anyway
from tests.drills.pass_through import WRITINGS, pass_through
from tests.harness import RunningProxy, free_port

FULL = os.environ.get("RINGFENCE_DRILL_MATRIX") == "full"
SEED = int(os.environ.get("RINGFENCE_DRILL_SEED", "20261125"))
ALL = all_cells()
GROUPS = by_proxy(ALL if FULL else one_of_each(ALL))
CONDITIONS = tuple(GROUPS) if FULL else (Condition.NONE,)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if FULL else 600)]


@dataclass(frozen=True)
class Checked:
    """A run against a whole proxy, which is still up; its recorder is gone, and its port free."""

    condition: Condition
    run: Run
    probes: tuple[Probe, ...]
    proxy: RunningProxy
    port: int


@pytest.fixture(scope="module", params=CONDITIONS, ids=lambda condition: condition.value)
def checked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checked]:
    condition: Condition = request.param
    sent = probes(GROUPS[condition], SEED)
    folder = tmp_path_factory.mktemp("matrix") / "home"
    port = free_port()
    with proxy_under(condition, f"http://127.0.0.1:{port}/v1", folder) as proxy:
        with Recorder(port) as recorder:
            done = run(Target(proxy.url, models=MODELS), recorder, sent)
        yield Checked(condition, done, sent, proxy, port)


def test_no_cell_leaks(checked: Checked) -> None:
    told = Counter(result.outcome.name for result in checked.run.results)
    statuses = Counter(answer.status for answer in checked.run.answers)
    print(f"\n{checked.condition.value}: {dict(told)}, statuses {dict(statuses)}")
    assert [(leak.cell.name, leak.seen) for leak in checked.run.leaks] == []
    assert checked.run.of(Outcome.SILENT) == ()
    assert checked.run.unseen == ()
    assert len(checked.run.results) == len(GROUPS[checked.condition])


def test_the_harmless_twin_leaves_wherever_anything_may(checked: Checked) -> None:
    shut = {result.cell.name for result in checked.run.of(Outcome.SHUT)}
    expected = {cell.name for cell in GROUPS[checked.condition] if stays_anyway(cell)}
    assert shut - expected == set()
    left = {result.cell.name for result in checked.run.of(Outcome.STAYED)}
    assert left & expected == set()
    assert left or checked.condition is Condition.DETECTOR


def test_no_value_stands_in_anything_that_was_written(checked: Checked) -> None:
    searcher = searcher_of(checked.probes)
    folder = checked.proxy.log_path.parent
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files[Path("/metrics")] = checked.proxy.metrics()
    found = {(path.name, form) for path, data in files.items() for form in _forms(searcher, data)}
    assert found == set()
    assert {path.name for path in files} >= {"log.jsonl", "pins.sqlite3"}
    assert len(checked.proxy.records("decision")) >= len(checked.run.results)


def test_no_error_and_no_header_repeats_a_value(checked: Checked) -> None:
    searcher = searcher_of(checked.probes)
    found = set()
    for answer in checked.run.answers:
        headers = readable(b"", answer.headers)
        told = answer.told if answer.status and answer.status >= 400 else headers
        if answer.probe in searcher.find(told):
            found.add((checked.probes[answer.probe].cell.name, answer.status))
    assert found == set()
    seen = {answer.status for answer in checked.run.answers}
    assert seen >= ({200, 400} if checked.condition is Condition.NONE else {200})


@pytest.mark.parametrize("writing", WRITINGS)
def test_the_search_sees_a_leak_of_every_cell_however_it_is_written(writing: str) -> None:
    cells = ALL if FULL else ALL[list(WRITINGS).index(writing) :: len(WRITINGS)]
    sent = probes(cells, SEED)[::2]
    searcher = searcher_of(sent)
    blind = []
    for probe in sent:
        direct = as_recorded(probe, MODELS[0])
        is_text = not probe.cell.route.is_form
        body, more = WRITINGS[writing](direct.body) if is_text else (direct.body, {})
        if probe.index not in searcher.find(readable(body, direct.headers | more, direct.path)):
            blind.append(probe.cell.name)
    assert blind == []
    assert len(sent) >= 300


def test_a_proxy_that_lets_all_through_is_seen_leaking_in_every_cell() -> None:
    cells = tuple(cell for these in GROUPS.values() for cell in these)[:: 1 if FULL else 5]
    for number, writing in enumerate(WRITINGS):
        sent = probes(cells[number :: len(WRITINGS)], SEED)
        with Recorder() as recorder, pass_through(recorder.base_url, writing) as url:
            done = run(Target(url, models=MODELS), recorder, sent)
        assert {result.outcome for result in done.results} == {Outcome.LEAKED}


def test_selfcheck_finds_nothing_here(checked: Checked) -> None:
    if checked.condition is not Condition.NONE:
        pytest.skip("the command needs a proxy that lets harmless requests out")
    done = selfcheck(
        *("--url", checked.proxy.url, "--recorder-port", str(checked.port)),
        *("--model", MODELS[0], "--model", MODELS[1], "--only", "tool arguments"),
    )
    assert done.exit_code == 0, done.output
    assert "cells leaks" in done.stdout
    assert "not tried" in done.stdout
    assert "LEAK" not in done.stdout


def test_selfcheck_names_the_cells_that_leak() -> None:
    with Recorder() as recorder:
        port = recorder.port
    with pass_through(f"http://127.0.0.1:{port}/v1") as url:
        arguments = ("--url", url, "--recorder-port", str(port), "--only", "hex")
        done = selfcheck(*arguments)
        told = json.loads(selfcheck(*arguments, "--json").stdout)
    assert done.exit_code == 1, done.output
    assert "as spaced hex, chat" in done.stdout
    assert {cell["outcome"] for cell in told["cells"]} == {"leaked"}
    assert told["summary"]["leaked"] == len(told["cells"]) > 3
    assert "the detectors are late" in told["not_tried"]


def test_selfcheck_that_shows_nothing_is_not_green() -> None:
    with Recorder() as elsewhere, pass_through(elsewhere.base_url) as url:
        done = selfcheck("--url", url, "--recorder-port", "0", "--only", "base32")
    assert done.exit_code == 2, done.output
    assert "no harmless request arrived" in done.stderr


def test_selfcheck_refuses_a_name_that_no_cell_has_and_a_port_that_is_taken() -> None:
    assert selfcheck("--url", "http://127.0.0.1:9", "--only", "nonsense").exit_code == 2
    with Recorder() as taken:
        done = selfcheck("--url", "http://127.0.0.1:9", "--recorder-port", str(taken.port))
    assert done.exit_code == 2
    assert "in use" in done.stderr


def selfcheck(*arguments: str) -> Result:
    """The command, within this process."""
    return CliRunner().invoke(app, ["selfcheck", *arguments])


def _forms(searcher: Searcher, data: bytes) -> set[str]:
    once = data.replace(b"\\\\", b"\\")
    return set(searcher.find(data).values()) | set(searcher.find(once).values())
