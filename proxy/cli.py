"""The `ringfence` command: results on standard output, logs on standard error.

Exit 0: fine; 1: a check failed; 2: wrong usage.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from uvicorn.supervisors import Multiprocess

from audit.cli import app as audit_app
from proxy import __version__
from proxy.api.server import serve, server_config
from proxy.commands.ask import explain
from proxy.commands.check import Remark, run_checks
from proxy.commands.inspect import inspect_lines
from proxy.egress.cli import app as egress_app
from proxy.errors import ProxyError
from proxy.learning.cli import app as learning_app
from proxy.learning.export_cli import app as train_data_app
from proxy.local.ask import ask
from proxy.local.cli import app as model_app
from proxy.local.embedded import EmbeddedServer
from proxy.local.model import is_ready
from proxy.logs import configure_logs
from proxy.policy.cli import app as policy_app
from proxy.routing.cli import app as routing_app
from proxy.selfcheck.command import app as selfcheck_app
from proxy.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A privacy proxy for LLMs.")
app.add_typer(audit_app, name="audit")
app.add_typer(egress_app, name="egress")
app.add_typer(model_app, name="model")
app.add_typer(policy_app, name="policy")
app.add_typer(routing_app)
app.add_typer(selfcheck_app)
app.add_typer(learning_app)
app.add_typer(train_data_app, name="train-data")


def main() -> None:
    """Run the command; a fault of ours is a line, not a traceback."""
    try:
        app()
    except ProxyError as error:
        _give_up(error.public_message)


@app.command("serve")
def serve_command() -> None:
    """Run the proxy. Every setting is an environment variable; see docs/settings.md."""
    settings = load_settings()
    configure_logs(settings.log_format, settings.log_level)
    if settings.local_base_url is not None:
        return _serve(settings)
    if not is_ready(settings.model_dir):
        _give_up(
            f"There is no local model in {settings.model_dir}. Run `ringfence model pull`, "
            "or name your own endpoint in RINGFENCE_LOCAL_BASE_URL."
        )
    server = EmbeddedServer(
        settings.model_dir,
        settings.local_model,
        settings.embedded_port,
        settings.embedding_model_dir,
    )
    with server:
        # not as an endpoint of the operator's: whose weights answer here is known
        os.environ["RINGFENCE_EMBEDDED_BASE_URL"] = server.base_url
        _serve(load_settings())


def _serve(settings: Settings) -> None:
    # Imported late: prometheus-client looks at this variable when it is first imported.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    from proxy.assembly import Proxy
    from proxy.metrics import shared_folder

    proxy = Proxy(settings)  # what keeps it from starting is told once, not by each server process
    if settings.workers == 1:
        serve(proxy.app, settings)
        return

    with shared_folder(settings.data_dir):
        config = server_config("proxy.assembly:app", settings, factory=True)
        Multiprocess(config, [config.bind_socket()]).run()


@app.command("check")
def check_command() -> None:
    """Say what is configured, reachable, and would be refused. Exit 1: not fit to run."""
    settings = load_settings()
    results = asyncio.run(run_checks(settings))
    table = Table("", "what", "says", box=None, pad_edge=False)
    for result in results:
        table.add_row(_mark(result), result.what, result.says)
    Console(highlight=False).print(table)
    raise typer.Exit(0 if all(result.level != "bad" for result in results) else 1)


def _mark(remark: Remark) -> str:
    return {"good": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]BAD[/]"}[remark.level]


@app.command("ask")
def ask_command(
    question: Annotated[str, typer.Argument(help="One question, for a running proxy.")],
    url: Annotated[str | None, typer.Option(help="Root of the proxy, without /v1.")] = None,
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="Client key.")] = "none",
    model: Annotated[str, typer.Option(help="Model to ask for.")] = "ringfence",
    max_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 128,
) -> None:
    """Ask a running proxy one question; prints the answer, the route and why."""
    settings = load_settings()
    url = url or f"http://{settings.host}:{settings.port}"
    answer = ask(url, api_key, question, model=model, max_tokens=max_tokens)
    console = Console(highlight=False)
    console.print(answer.text, markup=False)
    console.print(explain(answer, settings.ledger_dir), style="dim", markup=False)
    raise typer.Exit(0 if answer.ok else 1)


@app.command("inspect")
def inspect_command(
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Lines of {id, text, lang}.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=32, help="Detector processes (default: one a core).")
    ] = None,
) -> None:
    """Inspect texts on standard input and say what the policy would do. No text is printed."""
    if not jsonl:
        raise typer.BadParameter("give --jsonl; one text a line as JSON")
    configure_logs("auto", "warning")
    settings, workers = load_settings(), workers or len(os.sched_getaffinity(0))
    raise typer.Exit(inspect_lines(settings, sys.stdin.buffer, sys.stdout, workers))


@app.command("version")
def version_command() -> None:
    """Print the version."""
    typer.echo(__version__)


def _give_up(message: str) -> NoReturn:
    # A place in a file must stay one word, however long its path.
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[red]ringfence:[/] {escape(message)}")
    raise SystemExit(1)
