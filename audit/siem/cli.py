"""`ringfence audit forward`: the copy for a SIEM."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from audit.arguments import failed
from audit.errors import AuditError
from audit.siem.forward import Forwarder, Lag
from audit.siem.source import open_source
from audit.siem.wires import open_wire

app = typer.Typer()


@app.command("forward")
def forward_command(
    to: Annotated[
        str,
        typer.Argument(
            help="syslog+tls://, syslog+tcp://, syslog+udp://, otlp+https://, https:// …"
        ),
    ],
    ledger: Annotated[
        str,
        typer.Argument(
            envvar=["RINGFENCE_LEDGER_URL", "RINGFENCE_LEDGER_DIR"],
            show_envvar=False,
            help="The ledger's folder, or postgresql://…",
        ),
    ] = "data/ledger",
    cursor: Annotated[
        Path, typer.Option(help="Keeps how far the copy is; one for each destination.")
    ] = Path("data/forward/cursor.json"),
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say how far it is.")] = False,
    ca: Annotated[Path | None, typer.Option(help="Certificate authority to trust.")] = None,
    authorization: Annotated[
        Path | None, typer.Option(help="File with the value of the Authorization header.")
    ] = None,
) -> None:
    """Forward sealed records and checkpoints to a SIEM, at least once each, until stopped.

    Exit 1: with --once, something could not be forwarded.
    """
    try:
        secret = authorization.read_text(encoding="ascii").strip() if authorization else None
        wire = open_wire(to, ca, secret)
        with closing(wire), closing(open_source(ledger)) as source:
            forwarder = Forwarder(source, wire, cursor, _tell)
            if status:
                typer.echo(json.dumps({**asdict(forwarder.cursor), **asdict(forwarder.lag())}))
                return
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: forwarder.stop())
            forwarder.run(once=once)
    except UnicodeDecodeError:
        raise typer.BadParameter("the authorization is not ASCII") from None
    except (AuditError, OSError) as error:
        raise failed("Not forwarded", error) from None


def _tell(what: str, lag: Lag) -> None:
    behind = f"{lag.num_checkpoints} checkpoints, {lag.seconds:.0f} s behind"
    Console(stderr=True).print(f"{what}; {behind}", highlight=False, markup=False)
