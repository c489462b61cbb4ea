"""What came of a run, for people and for machines."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from proxy.selfcheck.cells import FROM_INSIDE, ROUTES, Condition
from proxy.selfcheck.matrix import Outcome, Result, Run

#: Leaks that are told one by one; the others are counted.
MAX_TOLD: Final = 40

_STYLES: Final = {
    Outcome.LEAKED: "bold red",
    Outcome.STAYED: "green",
    Outcome.CLEANED: "green",
    Outcome.SHUT: "yellow",
    Outcome.SILENT: "bold yellow",
}
_WORDS: Final = {
    Outcome.LEAKED: "LEAK",
    Outcome.STAYED: "home",
    Outcome.CLEANED: "clean",
    Outcome.SHUT: "shut",
    Outcome.SILENT: "silent",
}
_LEGEND: Final = {
    Outcome.LEAKED: "the value arrived at the recorder, or in an answer to another request",
    Outcome.STAYED: "the request stayed; the same one without the value leaves",
    Outcome.CLEANED: "the request left without the value",
    Outcome.SHUT: "the request stayed, and so does the same one without the value",
    Outcome.SILENT: "the proxy gave no answer",
}


def print_table(console: Console, run: Run) -> None:
    """The matrix: a row for each position, a column for each route that was tried."""
    routes = [name for name in ROUTES if any(r.cell.route.name == name for r in run.results)]
    table = Table("position", *routes, box=None, pad_edge=False)
    by_place: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in run.results:
        by_place[result.cell.position.name][result.cell.route.name].append(result)
    for position, places in by_place.items():
        table.add_row(position, *(_square(places.get(route, [])) for route in routes))
    console.print(table)


def print_verdict(console: Console, run: Run, untried: Sequence[Condition]) -> None:
    """What leaks, by name; what was not tried; the sum."""
    counts = Counter(result.outcome for result in run.results)
    console.print()
    for outcome in Outcome:
        if counts[outcome]:
            word = f"[{_STYLES[outcome]}]{_WORDS[outcome]:>6}[/] {counts[outcome]:>5}"
            console.print(f"{word}  {_LEGEND[outcome]}")
    for result in run.leaks[:MAX_TOLD]:
        console.print(f"[bold red]LEAK[/] {result.cell.name}: {'; '.join(result.seen)}")
    if len(run.leaks) > MAX_TOLD:
        console.print(f"[bold red]LEAK[/] … and {len(run.leaks) - MAX_TOLD} more")
    if untried:
        names = "; ".join(f"{condition.value} ({_why(condition)})" for condition in untried)
        console.print(f"not tried: {names}")
    seen = len(run.results) - len(run.unseen)
    console.print(
        f"control: with nothing in between, {seen} of {len(run.results)} cells are seen leaking"
    )
    verdict = (
        f"[bold red]{len(run.leaks)} of {len(run.results)} cells leak[/]"
        if run.leaks
        else f"[green]none of {len(run.results)} cells leaks[/]"
    )
    console.print(f"{verdict}; {run.num_arrived} requests arrived at the recorder")


def as_json(run: Run, url: str, untried: Sequence[Condition]) -> str:
    """The run for machines; no value stands in it."""
    told = {
        "url": url,
        "cells": [_told(result) for result in run.results],
        "summary": {
            **{outcome.name.lower(): len(run.of(outcome)) for outcome in Outcome},
            "arrived": run.num_arrived,
            "unseen_by_control": len(run.unseen),
        },
        "not_tried": [condition.value for condition in untried],
    }
    return json.dumps(told, indent=2)


def _told(result: Result) -> dict[str, object]:
    cell = result.cell
    return {
        "position": cell.position.name,
        "route": cell.route.name,
        "stream": cell.stream,
        "condition": cell.condition.value,
        "value": cell.kind.value,
        "outcome": result.outcome.name.lower(),
        "status": result.status,
        "seen": list(result.seen),
    }


def _why(untried: Condition) -> str:
    if untried in FROM_INSIDE:
        return "cannot be brought about from outside"
    return "give --model twice, the cloud's own name last"


def _square(results: Iterable[Result]) -> str:
    """The worst outcome of a square of the table, and how many cells have it."""
    counts = Counter(result.outcome for result in results)
    if not counts:
        return ""
    worst = next(outcome for outcome in _WORST_FIRST if counts[outcome])
    total = sum(counts.values())
    share = str(total) if counts[worst] == total else f"{counts[worst]}/{total}"
    return f"[{_STYLES[worst]}]{_WORDS[worst]} {share}[/]"


_WORST_FIRST: Final = (
    Outcome.LEAKED,
    Outcome.SILENT,
    Outcome.SHUT,
    Outcome.STAYED,
    Outcome.CLEANED,
)
