"""The `ringfence egress` commands: the incident switch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from proxy.errors import SettingsError
from proxy.policy.switch import EgressSwitch, SwitchState
from proxy.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The incident switch: let nothing leave, at once.")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable result.")]


@app.callback()
def egress() -> None:
    """The incident switch of the data folder (RINGFENCE_DATA_DIR), for every server process."""


@app.command("off")
def off_command(
    by: Annotated[str, typer.Option(help="Who turns it off; stands on the record.")],
    why: Annotated[str, typer.Option(help="Why; a ticket number, say.")],
    as_json: Json = False,
) -> None:
    """Let nothing leave from now on, over restarts too. Unpinned drafts are answered at home.

    Exit 1: no proxy has run on this data folder, so perhaps it is another one's.
    """
    _tell(_change(lambda switch: switch.turn_off(by, why)), as_json)
    if not _is_of_a_proxy(load_settings().data_dir):
        raise typer.Exit(1)


@app.command("on")
def on_command(as_json: Json = False) -> None:
    """Let requests leave again, as far as policy lets them."""
    _tell(_change(lambda switch: switch.turn_on()), as_json)


@app.command("status")
def status_command(as_json: Json = False) -> None:
    """Say whether anything may leave. Exit 0: it may; 1: it is off."""
    state = EgressSwitch(load_settings().data_dir).state()
    _tell(state, as_json)
    raise typer.Exit(0 if state.is_on else 1)


def _change(change: Callable[[EgressSwitch], SwitchState]) -> SwitchState:
    folder = load_settings().data_dir
    try:
        return change(EgressSwitch(folder))
    except OSError as error:
        problem = error.strerror
    raise SettingsError(f"The switch cannot be turned: {folder}: {problem}.")


def _tell(state: SwitchState, as_json: bool) -> None:
    folder = load_settings().data_dir
    if not _is_of_a_proxy(folder):
        typer.echo(
            f"No proxy has run on {folder.absolute()}. Each looks at the switch of its own data "
            "folder (RINGFENCE_DATA_DIR).",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(asdict(state)))
        return
    said = "on: what policy lets leave may leave" if state.is_on else "off: nothing leaves"
    told = f" ({state.by}, {state.at}: {state.why})" if state.by else ""
    where = f", by {folder.absolute()}"
    Console(highlight=False).print(f"egress is {said}{told}{where}", markup=False, soft_wrap=True)


def _is_of_a_proxy(folder: Path) -> bool:
    """Whether a proxy has run on the data folder: the first thing that it makes there is keys."""
    return (folder / "keys").is_dir()
