"""`ringfence selfcheck`: the leak matrix against any running OpenAI-compatible proxy."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from proxy.selfcheck.cells import FROM_INSIDE, Cell, Condition, all_cells, one_of_each, probes
from proxy.selfcheck.matrix import Outcome, Run, run
from proxy.selfcheck.recorder import Recorder
from proxy.selfcheck.report import as_json, print_table, print_verdict
from proxy.selfcheck.wire import Target

#: Where the recorder listens unless told otherwise.
PORT: Final = 8099


app = typer.Typer()


@app.command("selfcheck")
def selfcheck_command(
    url: Annotated[str, typer.Option(help="Root of the proxy to check, without /v1.")],
    key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="Client key.")] = "none",
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model to ask for; a second one is asked for as the cloud's own name."),
    ] = None,
    recorder_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Loopback port of the recorder.")
    ] = PORT,
    full: Annotated[bool, typer.Option("--full", help="Every cell, not one of each kind.")] = False,
    only: Annotated[str | None, typer.Option(help="Only cells whose name holds this.")] = None,
    seed: Annotated[int | None, typer.Option(help="Repeats the values of an earlier run.")] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="Machine-readable result.")] = False,
) -> None:
    """Plant values all over requests to any proxy whose cloud is the recorder that this starts, and
    say where one got out. Exit 1: there is a leak; 2: the check could not show anything."""
    models = tuple(model or ["gpt-4o-mini"])
    cells, untried = _cells(models, full=full, only=only)
    seed = secrets.randbelow(2**31) if seed is None else seed
    target = Target(url.rstrip("/").removesuffix("/v1"), key, models)
    console = Console(highlight=False)
    notes = Console(stderr=True, highlight=False)
    try:
        with Recorder(recorder_port) as recorder:
            notes.print(
                f"The recorder stands for the cloud at {recorder.base_url}: the proxy's upstream "
                f"must point there. {len(cells)} cells, each beside a harmless twin; seed {seed}."
            )
            done = _checked(target, recorder, cells, seed, notes)
    except OSError as error:
        notes.print(f"[red]ringfence:[/] port {recorder_port} of the recorder: {error.strerror}")
        raise typer.Exit(2) from None
    if as_json_:
        console.print(as_json(done, target.url, untried), markup=False, soft_wrap=True)
    else:
        print_table(console, done)
        print_verdict(console, done, untried)
    raise typer.Exit(_exit_code(done, recorder, notes))


def _cells(
    models: Sequence[str], *, full: bool, only: str | None
) -> tuple[tuple[Cell, ...], tuple[Condition, ...]]:
    """What is tried, and the conditions that are not.

    Raises:
        BadParameter: no cell has such a name.
    """
    untried = (*FROM_INSIDE, *((Condition.MODEL,) if len(models) < 2 else ()))
    cells = tuple(cell for cell in all_cells() if cell.condition not in untried)
    if only is not None:
        cells = tuple(cell for cell in cells if only in cell.name)
    if not cells:
        raise typer.BadParameter("no cell's name holds this", param_hint="--only")
    return (cells if full else one_of_each(cells)), untried


def _checked(
    target: Target, recorder: Recorder, cells: Sequence[Cell], seed: int, notes: Console
) -> Run:
    sent = probes(cells, seed)
    with Progress(console=notes, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("asking", total=len(sent))
        return run(target, recorder, sent, done=lambda: progress.advance(task))


def _exit_code(done: Run, recorder: Recorder, notes: Console) -> int:
    """1 for a leak; 2 where nothing was shown, with the reason."""
    if done.leaks:
        return 1
    if done.unseen:
        names = json.dumps([cell.name for cell in done.unseen])
        notes.print(f"[red]ringfence:[/] the search is blind to {escape(names)}")
        return 2
    if not (done.of(Outcome.STAYED) or done.of(Outcome.CLEANED)):
        notes.print(
            "[red]ringfence:[/] nothing was shown: no harmless request arrived at the recorder. "
            f"Point the proxy's upstream at {recorder.base_url} and let it escalate (Ringfence: "
            "base_url in the policy, and RINGFENCE_CONFIDENCE_THRESHOLD=0)."
        )
        return 2
    return 0
