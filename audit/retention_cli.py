"""The `ringfence audit` commands for old records: pack, prune, hold, release."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from audit.arguments import KEYS, LEDGER, FilesOption, Keys, failed
from audit.chain import BadLine
from audit.errors import AuditError
from audit.holds import release_hold, set_hold
from audit.packing import pack_ledger
from audit.prune import prune
from audit.retention import Hold, holds_at, stored_events
from audit.showing_cli import moment

app = typer.Typer()

By = Annotated[str, typer.Option(help="Who does it, as a name or staff number.")]
Reason = Annotated[str, typer.Option(help="Why, as a code or a ticket.")]


@app.command("pack")
def pack_command(directory: FilesOption = LEDGER) -> None:
    """Compress the segments that are finished and sealed; every command reads them as before."""
    try:
        packed = pack_ledger(directory)
    except OSError as error:
        raise failed("Not packed (run it again)", error) from None
    typer.echo(
        f"packed: {packed.num_segments} segments, "
        f"{packed.bytes_before / 1e6:.1f} MB to {packed.bytes_after / 1e6:.1f} MB"
    )


@app.command("prune")
def prune_command(
    directory: FilesOption = LEDGER,
    keys: Keys = KEYS,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Keep so many days; else as the policy on record says."),
    ] = None,
    by: By = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Remove records whose time is up, by sealed segments, on the record; the rest verifies."""
    if not (by or dry_run):
        raise typer.BadParameter("say who removes them: --by")
    try:
        done = prune(directory, keys, days, by, dry_run=dry_run)
    except (AuditError, OSError) as error:
        raise failed("Not pruned, or not wholly (run it again)", error) from None
    typer.echo(
        f"{'would remove' if dry_run else 'removed'}: {done.num_records} records of "
        f"{done.num_segments} segments and {done.num_captures} captured bodies, "
        f"sealed before {done.before} (UTC), older than {done.days} days"
    )
    if done.num_held:
        typer.echo(f"on hold: {done.num_held} segments ({', '.join(done.holds)})")


@app.command("hold")
def hold_command(
    name: Annotated[
        str | None, typer.Argument(help="As case-17; none: the holds in force.")
    ] = None,
    directory: FilesOption = LEDGER,
    keys: Keys = KEYS,
    since: Annotated[datetime | None, typer.Option("--from", help="From this time on.")] = None,
    until: Annotated[datetime | None, typer.Option("--to", help="Before this time.")] = None,
    app_name: Annotated[str, typer.Option("--app", help="Only segments with this app.")] = "",
    by: By = "",
    reason: Reason = "",
) -> None:
    """Keep records of a time or an app from being removed, on the record; times are UTC."""
    if name is None:
        return _show_holds(directory)
    if not (by and reason) or (since and until and since >= until):
        raise typer.BadParameter("say who and why (--by, --reason), and --from before --to")
    start, end = ("" if time is None else moment(time)[:19] for time in (since, until))
    try:
        set_hold(directory, keys, Hold(name, start, end, app_name), {"by": by, "reason": reason})
    except (AuditError, OSError) as error:
        raise failed("Not on hold", error) from None
    typer.echo(f"on hold: {name}")
    return None


@app.command("release")
def release_command(
    name: Annotated[str, typer.Argument(help="The hold's name.")],
    directory: FilesOption = LEDGER,
    keys: Keys = KEYS,
    by: By = "",
    reason: Reason = "",
) -> None:
    """End a hold, on the record."""
    if not (by and reason):
        raise typer.BadParameter("say who and why: --by, --reason")
    try:
        release_hold(directory, keys, name, {"by": by, "reason": reason})
    except (AuditError, OSError) as error:
        raise failed("Not released", error) from None
    typer.echo(f"released: {name}")


def _show_holds(directory: Path) -> None:
    try:
        holds = holds_at(stored_events(directory))
    except (BadLine, OSError) as error:
        raise failed("There is no ledger to read", error) from None
    for hold in holds:
        what = [f"from {hold.since}"] if hold.since else []
        what += [f"to before {hold.until}"] if hold.until else []
        what += [f"with records of {hold.app}"] if hold.app else []
        typer.echo(f"{hold.name}: {', '.join(what) or 'everything'}")
    typer.echo(f"{len(holds)} in force")
