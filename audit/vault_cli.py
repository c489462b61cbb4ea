"""The `ringfence audit` commands for captured bodies: make a key, open one, erase one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from audit.arguments import KEYS, LEDGER, FilesOption, Keys, failed
from audit.capture_keys import PRIVATE_NAME, make_capture_key
from audit.captures import erase_body, open_answer_to, open_body, remove_orphans
from audit.disk import publish
from audit.errors import AuditError

app = typer.Typer()

Intent = Annotated[str, typer.Argument(metavar="ID", help="The id of its egress.intent.")]
_OUTPUT: Final = "A new file for it, mode 0600."


def is_terminal() -> bool:
    """Whether somebody sees what is written."""
    return sys.stdout.isatty()


@app.command("capture-key")
def capture_key_command(
    folder: Annotated[Path, typer.Option("--output", "-o", help="The auditor's folder.")],
) -> None:
    """Make the keys for captured bodies, on the auditor's machine: the private one stays there."""
    try:
        public = make_capture_key(folder)
    except OSError as error:
        raise failed("No key was made", error) from None
    typer.echo(f"{public}: for the proxy (RINGFENCE_CAPTURE_KEY_FILE)")
    typer.echo(f"{folder / PRIVATE_NAME}: opens what left; it never goes where the proxy runs")


@app.command("open")
def open_command(
    intent_id: Intent,
    key: Annotated[Path, typer.Option(help="The auditor's private key.")],
    directory: FilesOption = LEDGER,
    output: Annotated[Path | None, typer.Option("--output", "-o", help=_OUTPUT)] = None,
    answer: Annotated[bool, typer.Option("--answer", help="The answer to it, if kept.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Write to a terminal all the same.")] = False,
) -> None:
    """Write the body that left, byte for byte. Exit 1: there is none, or this key opens none."""
    if output is None and not show and is_terminal():
        raise typer.BadParameter("it holds what was sent: -o FILE, or --show for the terminal")
    try:
        body = (open_answer_to if answer else open_body)(directory, intent_id, key)
        if output is not None:
            publish(output, body)
            return
    except (AuditError, OSError) as error:
        raise failed("Not opened", error) from None
    sys.stdout.buffer.write(body)
    sys.stdout.flush()


@app.command("erase")
def erase_command(
    intent_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of its egress.intent.")
    ] = None,
    directory: FilesOption = LEDGER,
    keys: Keys = KEYS,
    reason: Annotated[str, typer.Option(help="Why, as a code: gdpr_art_17.")] = "",
    by: Annotated[str, typer.Option(help="Who erases it, as a name or staff number.")] = "",
    orphans: Annotated[
        bool, typer.Option("--orphans", help="What a crash left without a record, an hour old.")
    ] = False,
) -> None:
    """Erase a captured body and its answer for good, on the record; the chain stays whole."""
    if orphans == bool(intent_id):
        raise typer.BadParameter("name the intent, or --orphans")
    if intent_id and not (reason and by):
        raise typer.BadParameter("say why and who: --reason, --by")
    try:
        if intent_id:
            num = erase_body(directory, keys, intent_id, reason, by)
            attempts = f" in all its {num} attempts" if num > 1 else ""
            typer.echo(f"erased{attempts}; backups of the vault are yours to erase")
        else:
            typer.echo(f"removed: {remove_orphans(directory)}")
    except (AuditError, OSError) as error:
        raise failed("Not erased, or not wholly (run it again)", error) from None
