"""train: the command that trains with given values."""

from __future__ import annotations

from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, Trained, Training
from hpsearch.cli.stages import DryRunOption


@with_groups
def train(
    trained: Trained,
    training: Training,
    output: Output,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="K", help="Train K times, with the seed and those that follow it.")
    ] = 1,
    name: Annotated[str, typer.Option(help="Name of the study.")] = "train",
    dry_run: DryRunOption = False,
) -> None:
    """Train one net with given values: those of [train] and [model], and of flags; ranges are not used.

    Draws the curves while it trains, and says at the end what they mean and what to try next. Seeds differ in initial
    weights, minibatches and noise; each is a trial of the study. The same command again goes on where it was stopped;
    with more --seeds, the new ones join those that are there.

    Example: `hpsearch train --model lenet --set train.lr=1e-2 --epochs 20` or `hpsearch train -c best.toml --seeds 5`
    """
    with importing():
        from hpsearch.cli.training_run import train_once

    train_once(trained, training, output, name, epochs, seeds, dry_run=dry_run)
