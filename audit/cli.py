"""The `ringfence audit` commands."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.merkle import BadProof
from audit.note import BadNote
from audit.proof import Proof, prove_record
from audit.query import MEMBERS, SHOWN, Filter, query
from audit.verify import LIMITS, Report, verify

app = typer.Typer(no_args_is_help=True, help="Review and verify the ledger.")


Directory = Annotated[
    Path, typer.Argument(envvar="RINGFENCE_LEDGER_DIR", help="The ledger's folder.")
]


class Form(StrEnum):
    """How rows are written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


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
    """Check every record of a ledger, offline. Exit 0: sound; 1: changed; 2: no ledger there."""
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
        raise _unproven("No proof", error) from None
    typer.echo(proof.to_json())


@app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(metavar="PROOF", help="The proof; - is standard input.")],
    key: Annotated[
        str, typer.Option(help="The ledger's first public key, as kept elsewhere: name+id+base64.")
    ],
) -> None:
    """Check a proof with the public key alone, and show its record. Exit 1: it does not hold."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        proven = Proof.from_json(text).check(key)
    except (BadProof, BadNote, OSError, UnicodeDecodeError) as error:
        raise _unproven("NOT PROVEN", error) from None
    typer.echo(json.dumps(proven.record, indent=2))
    Console(stderr=True).print(
        f"[bold green]PROVEN[/]: record {proven.index} of the {proven.size} that the checkpoint of "
        f"{proven.sealed} signs",
        highlight=False,
    )


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
) -> None:
    """Find records. It does not check them: `verify` does. Exit 2: no ledger there."""
    pairs = [text.partition("=") for text in where or []]
    names = [name for name, _, _ in pairs]
    known = all(name in MEMBERS and sign for name, sign, _ in pairs)
    if not known or len(set(names)) < len(names):
        raise typer.BadParameter(f"--where takes each of {', '.join(MEMBERS)} once, as name=value")
    wanted = Filter(since, until, **{name: value for name, _, value in pairs})
    try:
        rows = query(directory, wanted, limit)
    except OSError as error:
        raise _no_ledger(directory, error) from None
    if form is Form.JSON:
        typer.echo("\n".join(json.dumps(row) for row in rows))
    elif form is Form.CSV:
        writer = csv.DictWriter(sys.stdout, SHOWN, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _show_rows(rows)


def _no_ledger(directory: Path, error: OSError) -> typer.Exit:
    Console(stderr=True).print(f"There is no ledger to read in {directory}: {error.strerror}.")
    return typer.Exit(2)


def _unproven(what: str, error: Exception) -> typer.Exit:
    reason = error.strerror if isinstance(error, OSError) else error
    Console(stderr=True).print(f"{what}: {reason}.", highlight=False, markup=False)
    return typer.Exit(1)


def _show_rows(rows: list[dict[str, object]]) -> None:
    """Two lines a record: what it says, and its id, which is copied into `prove`."""
    console = Console(highlight=False)
    for row in rows:
        said = [(name, row[name]) for name in SHOWN[4:] if row[name] not in (None, "")]
        line = "  ".join(f"[dim]{name}[/] {escape(str(value))}" for name, value in said)
        time = str(row["time"])[:19].replace("T", " ")
        console.print(f"{time}  [bold]{row['kind']:<14}[/]  {line}", soft_wrap=True)
        console.print(f"[dim]{'':19}  {row['id']}[/]", soft_wrap=True)
    if not rows:
        console.print("no record fits")


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
    for name in report.torn_tails:
        console.print(f"[yellow]unfinished last line[/] in {name} (a write under way, or a crash)")
    if report.faults:
        table = Table("file", "line", "what is wrong", box=None, pad_edge=False)
        for fault in report.faults[:50]:
            table.add_row(fault.file, str(fault.line), fault.problem)
        console.print(table)
        console.print(f"[bold red]CHANGED[/]: {len(report.faults)} faults")
    else:
        console.print("[bold green]SOUND[/]: every record stands as it was written")
    for limit in LIMITS:
        console.print(f"[dim]{limit}[/]")
