"""The `ringfence audit` commands."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from errno import ENOENT
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.acts_cli import app as acts
from audit.arguments import Directory, failed, folder_of
from audit.errors import AuditError
from audit.merkle import BadProof
from audit.note import BadNote
from audit.proof import Proof, prove_record
from audit.query import MEMBERS, SHOWN, UNINSPECTED_SHOWN, Filter, query, uninspected_egress
from audit.replay import WAL
from audit.retention_cli import app as retention
from audit.schema import schema_text
from audit.showing_cli import app as showing
from audit.showing_cli import check_statement_file, verify_bundle
from audit.siem.cli import app as siem
from audit.statement import is_statement
from audit.stores.address import is_copy
from audit.tail import EVERY_S, follow, row_of
from audit.vault_cli import app as vault
from audit.verify import LIMITS, Report, verify

app = typer.Typer(no_args_is_help=True, help="Review and verify the ledger.")
app.add_typer(acts)
app.add_typer(retention)
app.add_typer(showing)
app.add_typer(siem)
app.add_typer(vault)


class Form(StrEnum):
    """How rows are written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class TailForm(StrEnum):
    """How followed records are written."""

    TEXT = "text"
    JSON = "json"


@app.callback()
def audit() -> None:
    """Review and verify the ledger; needs nothing but its files."""


@app.command("verify")
def verify_command(
    directory: Directory = Path("data/ledger"),
    key: Annotated[
        str | None, typer.Option(help="The first public key, as kept elsewhere: name+id+base64.")
    ] = None,
    not_older_than: Annotated[
        Path | None, typer.Option(help="A checkpoint kept elsewhere; the ledger must hold it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable result.")] = False,
) -> None:
    """Check a ledger or a bundle, offline. Exit 0: sound; 1: changed; 2: no ledger there."""
    if directory.is_file():
        try:
            return verify_bundle(directory, key)
        except (AuditError, OSError) as error:
            raise failed("CHANGED, or no bundle", error) from None
    try:
        outside_head = not_older_than.read_bytes() if not_older_than else None
        report = verify(directory, key=key, outside_head=outside_head)
    except OSError as error:
        raise _no_ledger(directory, error) from None
    if as_json:
        result = {**asdict(report), "is_sound": report.is_sound, "limits": LIMITS}
        typer.echo(json.dumps(result, indent=2))
    else:
        _show(report)
    raise typer.Exit(0 if report.is_sound else 1)


@app.command("prove")
def prove_command(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    directory: Directory = Path("data/ledger"),
) -> None:
    """Write a proof of one record, which is checked without the others. Exit 1: there is none."""
    try:
        proof = prove_record(directory, record_id)
    except (BadProof, BadNote, OSError) as error:
        raise failed("No proof", error) from None
    typer.echo(proof.to_json())


@app.command("check")
def check_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The proof or statement; - is standard input.")
    ],
    key: Annotated[
        str, typer.Option(help="The ledger's first public key, as kept elsewhere: name+id+base64.")
    ],
    ledger: Annotated[
        Path | None,
        typer.Option(
            parser=folder_of,
            metavar="LEDGER",
            help="Come to a statement's evidence anew over this ledger: a folder, or postgresql://…",
        ),
    ] = None,
) -> None:
    """Check a proof or a statement with the public key alone. Exit 1: it does not hold."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        if is_statement(text):
            return check_statement_file(text, key, ledger)
        proven = Proof.from_json(text).check(key)
    except (AuditError, OSError, UnicodeDecodeError) as error:
        raise failed("NOT PROVEN", error) from None
    typer.echo(json.dumps(proven.record, indent=2))
    Console(stderr=True).print(
        f"[bold green]PROVEN[/]: record {proven.index} of the {proven.size} that the checkpoint of "
        f"{proven.sealed} signs",
        highlight=False,
    )


@app.command("copy")
def copy_command(
    url: Annotated[str, typer.Argument(envvar="RINGFENCE_LEDGER_URL", show_envvar=False)],
    folder: Annotated[Path, typer.Argument(help="Where to; not there yet, or empty.")],
) -> None:
    """Copy a ledger out of PostgreSQL into the form of the files, byte for byte."""
    from audit.stores.postgres_copy import copy_ledger

    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty")
    try:
        num_records = copy_ledger(url, folder)
    except AuditError as error:
        raise failed("Not done", error) from None
    Console(stderr=True).print(f"{num_records} records in {folder}", highlight=False)


@app.command("init-postgres")
def init_postgres_command(
    url: Annotated[str, typer.Argument(help="postgresql://… of the tables' owner.")],
    writer: Annotated[
        str, typer.Option(help="The proxy's role: it may INSERT and SELECT, nothing else.")
    ] = "ringfence_writer",
    reader: Annotated[str | None, typer.Option(help="A role that only reads, if any.")] = None,
) -> None:
    """Make tables, roles and rights of a ledger in PostgreSQL. The roles get no password."""
    from audit.stores.postgres_copy import init_postgres

    try:
        init_postgres(url, writer, reader)
    except AuditError as error:
        raise failed("Not done", error) from None
    console = Console(stderr=True, highlight=False)
    console.print(f"The tables stand in schema ringfence; [bold]{writer}[/] may write them.")
    console.print(r"Next: give it a password (psql: \password), and set RINGFENCE_LEDGER_URL.")


@app.command("query")
def query_command(
    directory: Directory = Path("data/ledger"),
    since: Annotated[datetime | None, typer.Option(help="From this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time (UTC).")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help=f"A member and its value, as app=billing; of {', '.join(MEMBERS)}."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100,
    form: Annotated[Form, typer.Option("--format", help="How to write them.")] = Form.TEXT,
    uninspected: Annotated[
        bool,
        typer.Option(
            "--uninspected-egress",
            help="Every egress whose request was not read to its end. Exit 1: there is one.",
        ),
    ] = False,
) -> None:
    """Find records. It does not check them: `verify` does. Exit 2: no ledger there."""
    wanted = _filter(where, since, until)
    if uninspected and where:
        raise typer.BadParameter("--uninspected-egress takes no --where")
    try:
        if uninspected:
            rows = uninspected_egress(directory, wanted)
        else:
            rows = query(directory, wanted, limit)
    except OSError as error:
        raise _no_ledger(directory, error) from None
    shown = UNINSPECTED_SHOWN if uninspected else SHOWN
    if form is Form.JSON:
        typer.echo("\n".join(json.dumps(row) for row in rows))
    elif form is Form.CSV:
        writer = csv.DictWriter(sys.stdout, shown, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _tame(row[name]) for name in shown} for row in rows)
    elif uninspected:
        _show_uninspected(rows)
    else:
        _show_rows(rows)
    raise typer.Exit(1 if uninspected and rows else 0)


@app.command("tail")
def tail_command(
    directory: Directory = Path("data/ledger"),
    where: Annotated[
        list[str] | None, typer.Option(help="As for `query`: a member and its value.")
    ] = None,
    num_before: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Begin with so many that are there.")
    ] = 10,
    following: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with what comes.")
    ] = True,
    form: Annotated[
        TailForm, typer.Option("--format", help="Readable, or the lines as they are stored.")
    ] = TailForm.TEXT,
) -> None:
    """Show records as they are written. It does not check them. Exit 2: no ledger there."""
    wanted = _filter(where)
    if following and is_copy(directory):
        raise typer.BadParameter("a database is not followed: --no-follow, or `audit forward`")
    if not (directory / WAL).is_dir():
        raise _no_ledger(directory, FileNotFoundError(ENOENT, os.strerror(ENOENT)))

    def wait() -> bool:
        time.sleep(EVERY_S if following else 0)
        return following

    try:
        for line, members in follow(directory, wanted, num_before, wait):
            if form is TailForm.JSON:
                typer.echo(line.decode("ascii", "backslashreplace"))
            else:
                _show_rows([row_of(members)])
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except OSError as error:
        raise _no_ledger(directory, error) from None


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the records."""
    typer.echo(schema_text(), nl=False)


def _filter(
    where: list[str] | None, since: datetime | None = None, until: datetime | None = None
) -> Filter:
    """What ``--where`` asks for."""
    pairs = [text.partition("=") for text in where or []]
    names = [name for name, _, _ in pairs]
    known = all(name in MEMBERS and sign for name, sign, _ in pairs)
    if not known or len(set(names)) < len(names):
        raise typer.BadParameter(f"--where takes each of {', '.join(MEMBERS)} once, as name=value")
    return Filter(since, until, **{name: value for name, _, value in pairs})


def _tame(value: object) -> object:
    """A value that steers no terminal and starts no formula: queried records are not verified."""
    if not isinstance(value, str):
        return value
    shown = "".join(c if c.isprintable() else "?" for c in value)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def _no_ledger(directory: Path, error: OSError) -> typer.Exit:
    Console(stderr=True).print(f"There is no ledger to read in {directory}: {error.strerror}.")
    return typer.Exit(2)


def _show_rows(rows: list[dict[str, object]]) -> None:
    """Two lines a record: what it says, and its id, which is copied into `prove`."""
    console = Console(highlight=False)
    for row in rows:
        said = [(name, row[name]) for name in SHOWN[4:] if row[name] not in (None, "")]
        line = "  ".join(f"[dim]{name}[/] {escape(str(_tame(value)))}" for name, value in said)
        when, kind, id_ = (escape(str(_tame(row[name]))) for name in ("time", "kind", "id"))
        when = when[:19].replace("T", " ")
        console.print(f"{when}  [bold]{kind:<14}[/]  {line}", soft_wrap=True)
        console.print(f"[dim]{'':19}  {id_}[/]", soft_wrap=True)
    if not rows:
        console.print("no record fits")


def _show_uninspected(rows: list[dict[str, object]]) -> None:
    console = Console(highlight=False)
    console.print(f"uninspected egress = {len(rows)}")
    for row in rows:
        time = str(row["time"])[:19].replace("T", " ")
        where = escape(f"{row['destination']} ({row['region']}): {row['why']}")
        console.print(f"{time}  {row['id']}  {where}", soft_wrap=True)


def _show(report: Report) -> None:
    console = Console(highlight=False)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    console.print(f"{report.num_records} records in {report.num_chains} chains: {counts}")
    console.print(
        f"{report.open_chains} chains still open, {report.open_intents} intents without an outcome"
    )
    console.print(
        f"{report.num_checkpoints} checkpoints, sealed until {report.sealed_until or 'never'}; "
        f"{report.num_unsealed} records after that are not sealed yet "
        f"({report.exposed_s:.1f} s exposed); longest silence {report.longest_silence_s:.0f} s"
    )
    console.print(f"first key {report.key or 'none'}", soft_wrap=True)
    if report.num_captured or report.num_orphans:
        console.print(
            f"{report.num_captured} captured bodies, {report.num_erased} of them erased; "
            f"{report.num_orphans} captures without a record"
        )
    if report.num_answers or report.num_lost_answers:
        console.print(
            f"{report.num_answers} captured answers; {report.num_lost_answers} could not be kept"
        )
    for removal in report.removals:
        console.print(
            f"[bold]{removal['records']} records removed by retention[/], of {removal['from']} to "
            f"{removal['to']}: older than {removal['days']} days, by {escape(str(removal['by']))}",
            soft_wrap=True,
        )
    if report.holds:
        console.print(f"on hold, and never removed: {escape(', '.join(report.holds))}")
    for place in report.unfinished_removals:
        console.print(f"[yellow]removal on record, not finished[/]: {place} (prune again)")
    for ref in report.unfinished_erasures:
        console.print(f"[yellow]erasure on record, not finished[/]: {ref} (erase it again)")
    for name in report.torn_tails:
        console.print(f"[yellow]unfinished last line[/] in {name} (a write under way, or a crash)")
    if report.faults:
        table = Table("file", "line", "what is wrong", box=None, pad_edge=False)
        for fault in report.faults[:50]:
            table.add_row(fault.file, str(fault.line), fault.problem)
        console.print(table)
        console.print(f"[bold red]CHANGED[/]: {len(report.faults)} faults")
    else:
        stands = "every record that was not removed" if report.num_removed else "every record"
        console.print(f"[bold green]SOUND[/]: {stands} stands as it was written")
    for limit in LIMITS:
        console.print(f"[dim]{limit}[/]")
