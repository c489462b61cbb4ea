"""The `ringfence audit` commands that show others what the ledger says: attest, report, export."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from audit.acts import record_acts
from audit.arguments import KEYS, LOCATED, Directory, Keys, LedgerArgument, failed
from audit.bundle import check_bundle, make_bundle
from audit.errors import AuditError
from audit.evidence import MAX_LISTED, Evidence, Question
from audit.month import Month, read_month
from audit.month_html import month_html
from audit.statement import NotTrue, attest, check_statement, rerun
from audit.verify import LIMITS

app = typer.Typer()

Since = Annotated[datetime, typer.Option("--from", help="From this time on (UTC).")]
Until = Annotated[datetime, typer.Option("--to", help="Before this time (UTC).")]


@app.command("attest")
def attest_command(
    ledger: LedgerArgument = LOCATED,
    what: Annotated[
        str, typer.Option("--no-egress-of", help="A category, as health, or an entity.")
    ] = "",
    since: Since = datetime.min,
    until: Until = datetime.min,
    region: Annotated[
        str | None, typer.Option("--destination-region", help="Only egress to this region.")
    ] = None,
    masked: Annotated[
        bool, typer.Option("--masked-may-leave", help="Values that were all masked do not count.")
    ] = False,
    unseen: Annotated[
        bool, typer.Option(help="State it of an entity too that this ledger never saw.")
    ] = False,
    keys: Keys = KEYS,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; else standard output.")
    ] = None,
) -> None:
    """Sign that no request with such data left, with the evidence. Exit 1: it is not true."""
    if not what or since >= until:
        raise typer.BadParameter("say what, --from and a later --to")
    question = Question(what, moment(since), moment(until), region, masked)
    try:
        note = attest(ledger.folder, keys, question, unseen=unseen, url=ledger.url)
        if output is not None:
            output.write_bytes(note)
    except NotTrue as error:
        _show_untrue(error)
        raise typer.Exit(1) from None
    except (AuditError, OSError) as error:
        raise failed("No statement", error) from None
    if output is None:
        typer.echo(note.decode(), nl=False)
    Console(stderr=True, highlight=False).print("[bold green]TRUE[/], and signed")


@app.command("report")
def report_command(
    directory: Directory = Path("data/ledger"),
    month: Annotated[str, typer.Option(help="As 2026-11.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: .html or .pdf; else HTML to output."),
    ] = None,
    controller: Annotated[str, typer.Option(help="Name of the controller, for the head.")] = "",
    purpose: Annotated[str, typer.Option(help="Purposes of the processing.")] = "",
) -> None:
    """Write a month's transfers in the form of GDPR Art. 30(1). Exit 1: the ledger was changed."""
    try:
        read = read_month(directory, month)
    except ValueError:
        raise typer.BadParameter("--month is a month, as 2026-11") from None
    except (AuditError, OSError) as error:
        raise failed("No report", error) from None
    said = {"controller": controller, "purpose": purpose}
    if output is not None and output.suffix == ".pdf":
        _write(output, _pdf(read, said))
    elif output is not None:
        _write(output, month_html(read, said).encode())
    else:
        typer.echo(month_html(read, said))


@app.command("export")
def export_command(
    ledger: LedgerArgument = LOCATED,
    since: Since = datetime.min,
    until: Until = datetime.min,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle to write, as bundle.zip.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who takes it; goes on the record.")] = "",
    keys: Keys = KEYS,
) -> None:
    """Write the records sealed in some time as a signed bundle. Exit 1: there is none to write."""
    if not by or output is None or since >= until:
        raise typer.BadParameter("say --from and a later --to, --output, and who takes it: --by")
    said = {"by": by, "from": moment(since)[:19], "to": moment(until)[:19]}
    try:
        times = moment(since), moment(until)
        bundle = make_bundle(ledger.folder, keys, *times, url=ledger.url)
        # no bundle goes out that is not recorded
        record_acts(ledger.folder, keys, "export", [said], ledger.url)
    except (AuditError, OSError) as error:
        raise failed("No bundle", error) from None
    _write(output, bundle)


def verify_bundle(file: Path, key: str | None) -> None:
    """Check a bundle and say what it holds.

    Raises:
        AuditError: it does not hold.
        OSError: it cannot be read.
    """
    bundle = check_bundle(file, key)
    content = bundle.content
    console = Console(highlight=False, markup=False)
    console.print(
        f"{bundle.num_records} records, sealed from {content['since'][:19]} to before "
        f"{content['until'][:19]} (UTC); leaves {content['first_index']} to "
        f"{content['first_index'] + bundle.num_records - 1} of the tree",
        soft_wrap=True,
    )
    console.print(f"first key {bundle.key}", soft_wrap=True)
    if key is None:
        console.print("That key came with the bundle: who made it is not shown (--key).")
    console.print("WHOLE: no record of it was changed, left out or added", style="bold green")
    for limit in LIMITS[1:]:
        console.print(limit, style="dim")


def _pdf(read: Month, said: dict[str, str]) -> bytes:
    try:
        from audit.month_pdf import month_pdf
    except ModuleNotFoundError:
        raise typer.BadParameter(
            "PDF needs the extra `report`: pip install 'ringfence[report]'"
        ) from None
    return month_pdf(read, said)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise failed("It cannot be written", error) from None
    typer.echo(f"written: {path}", err=True)


def check_statement_file(text: str, key: str, ledger: Path | None) -> None:
    """Check a statement and show what it says; over ``ledger`` too, if one is given.

    Raises:
        AuditError: it does not hold.
        OSError: the ledger cannot be read.
    """
    statement = check_statement(text.encode(), key)
    differences = rerun(ledger, statement, key) if ledger is not None else []
    if differences:
        raise NotTrue(f"the ledger says otherwise: {'; '.join(differences[:5])}")
    content = statement.content
    evidence = content["evidence"]
    console = Console(highlight=False, markup=False)
    console.print(content["claim"], soft_wrap=True)
    console.print(
        f"\n{evidence['egresses']} egresses looked at, {evidence['elsewhere']} to other regions, "
        f"{evidence['not_sent']} not sent; {evidence['decisions']} decisions, "
        f"{evidence['records']} records in the period; lowest coverage "
        f"{evidence['lowest_coverage']:.0%}; {evidence['num_gaps']} gaps",
        soft_wrap=True,
    )
    for title in ("destinations", "policies", "detectors", "gaps"):
        for line in _lines(evidence[title]):
            console.print(f"{title}: {line}", soft_wrap=True)
    console.print("\nIt cannot prove:")
    for limit in content["cannot_prove"]:
        console.print(f"- {limit}", soft_wrap=True)
    how = "and the ledger says the same" if ledger is not None else "the ledger was not asked"
    Console(stderr=True, highlight=False).print(
        f"[bold green]SIGNED[/], over the {statement.head.size} records that the checkpoint of "
        f"{statement.head.time} signs; {how}"
    )


def moment(given: datetime) -> str:
    """A time (UTC where it names no zone) as records write theirs."""
    known = given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    return known.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _lines(told: dict[str, int] | list[dict[str, str]]) -> list[str]:
    if isinstance(told, dict):
        return [f"{name}: {num}" for name, num in told.items()]
    return [f"{gap['from']} to {gap['until']}: {gap['why']}" for gap in told]


def _show_untrue(error: NotTrue) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]NOT SIGNED[/]: {error}", soft_wrap=True)
    evidence = error.evidence or Evidence()
    for title, ids in (
        ("left with such data", evidence.violations),
        ("left without telling what was in it", evidence.undecided),
    ):
        for id_ in sorted(ids)[:MAX_LISTED]:
            console.print(f"{id_}  {title}", soft_wrap=True)
        if ids:
            console.print(f"{len(ids)} {title}")
