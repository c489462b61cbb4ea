"""The `ringfence audit` commands that write to the ledger: a review, the end of a digest key.

They are for the user that the proxy runs as: they need its keys, and leave files of their own.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from audit.acts import destroy_digest_key, review, unreviewed
from audit.arguments import KEYS, LOCATED, Keys, LedgerOption, failed
from audit.errors import AuditError

app = typer.Typer()


class Verdict(StrEnum):
    """What a reviewer says of a record."""

    FINE = "fine"
    FOLLOW_UP = "follow_up"


@app.command("review")
def review_command(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The records; none: what waits.")
    ] = None,
    ledger: LedgerOption = LOCATED,
    keys: Keys = KEYS,
    by: Annotated[str, typer.Option(help="Who looked, as a name or staff number.")] = "",
    verdict: Annotated[Verdict, typer.Option(help="What they say.")] = Verdict.FINE,
    ticket: Annotated[str, typer.Option(help="Where it goes on.")] = "",
) -> None:
    """Sign off records, on the record; without an ID, list what waits. Exit 1: not recorded."""
    if not ids:
        return _show_waiting(ledger.folder)
    if not by:
        raise typer.BadParameter("say who looked: --by")
    said = {"by": by, "verdict": verdict.value} | ({"ticket": ticket} if ticket else {})
    try:
        review(ledger.folder, keys, ids, said, ledger.url)
    except (AuditError, OSError) as error:
        raise failed("Not reviewed", error) from None
    typer.echo(f"reviewed: {len(set(ids))}")


@app.command("destroy-key")
def destroy_key_command(
    name: Annotated[str, typer.Argument(help="The digest key of a past month, as hk-2026-01.")],
    ledger: LedgerOption = LOCATED,
    keys: Keys = KEYS,
    by: Annotated[str, typer.Option(help="Who destroys it.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy a digest key for good, on the record: its digests mean nothing to anyone any more."""
    if not by:
        raise typer.BadParameter("say who destroys it: --by")
    if not yes:
        typer.confirm(f"Destroy {name}? No digest made with it can be checked again", abort=True)
    try:
        destroy_digest_key(ledger.folder, keys, name, by, ledger.url)
    except (AuditError, OSError) as error:
        raise failed("Not done, or not on the record (run it again)", error) from None
    typer.echo(f"{name} is destroyed; backups of it are yours to destroy")


def _show_waiting(directory: Path) -> None:
    try:
        rows = unreviewed(directory)
    except OSError as error:
        raise failed("There is no ledger to read", error) from None
    console = Console(highlight=False)
    for row in rows:
        why = row.get("why") or row.get("detail") or ""
        time = str(row["time"])[:19].replace("T", " ")
        kind = f"{row['kind']:<18}"
        console.print(f"{time}  [bold]{kind}[/]  {row['id']}  {escape(str(why))}", soft_wrap=True)
    console.print(f"{len(rows)} wait for a review")
