"""`ringfence finetune`: teach the local model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from proxy.learning.finetune import Job, finetune
from proxy.learning.recipe import Recipe
from proxy.settings import load_settings

app = typer.Typer()

#: The name of the model that the settings name.
EMBEDDED: Final = "embedded"

_USUAL: Final = Recipe()
_STAGES: Final = {"below": "layers that stay", "training": "training"}


@app.command("finetune")
def finetune_command(
    data: Annotated[Path, typer.Option(help="JSONL of pairs; see docs/routing.md.")],
    out: Annotated[Path, typer.Option(help="A new folder for the trained model.")],
    model: Annotated[
        str, typer.Option(help="A model's folder, or `embedded`: that of RINGFENCE_MODEL_DIR.")
    ] = EMBEDDED,
    epochs: Annotated[int, typer.Option(min=1, help="Times each pair is learnt.")] = _USUAL.epochs,
    layers: Annotated[int, typer.Option(min=1, help="Upper layers that learn.")] = _USUAL.layers,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="The highest.")
    ] = _USUAL.learning_rate,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step.")] = _USUAL.batch_size,
    max_tokens: Annotated[
        int, typer.Option(min=2, help="The longest pair; longer ones are left out.")
    ] = _USUAL.max_tokens,
    chat_template: Annotated[
        Path | None, typer.Option(help="A chat template for the new model, in Jinja.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of the pairs.")] = _USUAL.seed,
) -> None:
    """Train the local model on pairs, as a new folder for RINGFENCE_MODEL_DIR; resumes.

    A calibration made for the old model is refused with the new one: calibrate anew.
    """
    folder = load_settings().model_dir if model == EMBEDDED else Path(model)
    recipe = Recipe(epochs, learning_rate, batch_size, layers, seed, max_tokens)
    with _progress() as bar:
        tasks = {name: bar.add_task(said, total=None) for name, said in _STAGES.items()}

        def tell(stage: str, done: int, whole: int) -> None:
            bar.update(tasks[stage], completed=done, total=whole)

        result = finetune(Job(data, folder, out, recipe, chat_template), tell)
    console = Console(highlight=False)
    left_out = f", {result.num_too_long} too long and left out" if result.num_too_long else ""
    console.print(
        f"{result.num_pairs} pairs{left_out}, {result.num_steps} steps; "
        f"loss of the last epoch {result.loss:.3f}",
        soft_wrap=True,
    )
    console.print(f"{result.digest} in {out}", soft_wrap=True)
    console.print(
        f"use it with RINGFENCE_MODEL_DIR={out}, after a new `ringfence calibrate`", soft_wrap=True
    )


def _progress() -> Progress:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
