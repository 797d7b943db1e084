"""test: the command that uses the test set, and what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import TrustOption, ViewsOption, read_settings
from hpsearch.cli.signals import ending_in_order
from hpsearch.wording import count_text, value_text

if TYPE_CHECKING:
    from hpsearch.search.final_result import FinalTest

MAX_CLASSES_SHOWN = 20  # of a confusion matrix in a terminal


@with_groups
def final_test(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    storage: Storage,
    output: Output,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="Not the best trial, but this one.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="K", help="Train, or call, K times: with the trial's seed and the next.")
    ] = 1,
    train_on_val: Annotated[
        bool,
        typer.Option("--train-on-val", help="Train on the validation images, too, for the trial's best epoch count."),
    ] = False,
    views: ViewsOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    trust: TrustOption = None,
) -> None:
    """Use the test set, once and at the very end: train the best trial of a stage again and measure it there.

    The weights are those of the epoch that was the best on the validation images, as in the search. The interval is
    Wilson's of 95% over the choice of test images; more seeds are measured on the same images, so their spread is given
    beside it. Each use is kept with the study, and a second one says so: whoever chooses by test accuracy has no unseen
    images left. With --views a second number is shown beside the one without: that of the mean probabilities over views
    of each image.

    Example: `hpsearch test fine --seeds 5`
    """
    settings = read_settings(storage=storage.storage, flags={"run.device": device}, trusted=trust)
    with ending_in_order():
        from hpsearch.cli.waiting import data_progress
        from hpsearch.search.final_measurement import final_test as measure
        from hpsearch.storage import open_database

        def seed_ended(seed: int, accuracy: float | None) -> None:
            if seeds > 1 and not output.quiet:
                said = f"test_acc {accuracy:.4f}" if accuracy is not None else "exploded"
                typer.echo(f"seed {seed}: {said}", err=True)

        db = open_database(settings.run.storage)
        with data_progress(output.quiet or output.as_json) as progress:
            result = measure(
                db,
                settings.run,
                study,
                trial,
                num_seeds=seeds,
                train_on_val=train_on_val,
                views=views,
                progress=progress,
                seed_ended=seed_ended,
            )
    if output.as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        _print_test(result)


def _print_test(result: FinalTest) -> None:
    from hpsearch.cli.output import line, show_table
    from hpsearch.cli.progress import plain_params
    from hpsearch.config.metric import measures_text

    images = "training and validation" if result.train_on_val else "training"
    line(
        "trial",
        f"{result.number} of {result.study}: {result.metric.column} {value_text(result.value)},"
        f" {plain_params(result.params)}",
    )
    if result.origin is not None:
        line("origin", f"{result.origin}; here it is trained from its first epoch")
    line("trained", f"{_epochs_text(result)} on {result.num_train} {images} images; {_weights_text(result)}")
    if not result.metric.is_accuracy:
        line(result.metric.test_column, _score_text(result))
    low, high = result.interval
    line("test_acc", f"{result.mean:.4f}  95% [{low:.4f}, {high:.4f}] (Wilson, {result.num_test} test images)")
    if result.mean_at_threshold is not None:
        line("threshold", _threshold_text(result))
    if result.view_mean is not None and result.view_interval is not None:
        low, high = result.view_interval
        score = (
            "" if result.metric.is_accuracy else f"; {result.metric.test_column} {value_text(result.view_mean_score)}"
        )
        within = f"  95% [{low:.4f}, {high:.4f}]"
        line("views", f"{result.views}: test_acc {result.view_mean:.4f}{within}{score}, from the mean probabilities")
    if len(result.seeds) > 1:
        line("seeds", _seeds_text(result), "red" if len(result.measured) < len(result.seeds) else "")
    others = {name: value for name, value in result.measures.items() if name not in ("accuracy", result.metric.name)}
    line("measures", measures_text(others))
    names, per_class = result.class_names, result.per_class
    if len(names) <= MAX_CLASSES_SHOWN:
        line("classes", "images of each true class (row) by what they were taken for (column)")
        rows = (
            (name, value_text(accuracy), *(count or "." for count in counts))
            for name, accuracy, counts in zip(names, per_class, result.confusion.tolist(), strict=True)
        )
        show_table(("true", "accuracy", *names), rows, right=frozenset(("accuracy", *names)))
    else:
        ranked = sorted((a, name) for a, name in zip(per_class, names, strict=True) if a is not None)
        line("worst", " · ".join(f"{name} {accuracy:.3f}" for accuracy, name in ranked[:5]))
        line("best", " · ".join(f"{name} {accuracy:.3f}" for accuracy, name in ranked[:-6:-1]))
    if result.uses.num > 1:
        line("note", f"this is {result.uses.use_text}: an accuracy that anything was chosen by is too high", "red")


def _seeds_text(result: FinalTest) -> str:
    """How far seeds are apart, and how many exploded, of which the accuracy says nothing."""
    exploded = len(result.seeds) - len(result.measured)
    spread = f"{len(result.seeds)}: "
    if result.std is not None:
        spread += f"std {result.std:.4f}, from {min(result.measured):.4f} to {max(result.measured):.4f}"
    if not exploded:
        return spread
    said = f"{exploded} exploded, and the values are those of {len(result.measured)} that did not: lower train.lr"
    return f"{spread}{'; ' if result.std is not None else ''}{said}"


def _threshold_text(result: FinalTest) -> str:
    """What the test images give with thresholds that were found on the validation images."""
    found = ", ".join(f"{threshold:.4g}" for threshold in result.thresholds if threshold is not None)
    at, half, text = result.mean_at_threshold, result.mean_score, result.metric.text
    assert at is not None
    beside = f" ({text(half)} at 0.5)" if half is not None else ""
    return (
        f"{result.class_names[1]} from probability {found} on, found on validation images: "
        f"{result.metric.test_column} {text(at)}{beside}"
    )


def _score_text(result: FinalTest) -> str:
    scores = result.measured_scores
    text = result.metric.text
    spread = ""
    if result.std_score is not None:
        spread = f"; std {text(result.std_score)}, from {text(min(scores))} to {text(max(scores))}"
    return f"{value_text(result.mean_score)}{spread} ({result.num_test} test images)"


def _epochs_text(result: FinalTest) -> str:
    early = any(
        epochs < result.epochs
        for epochs, accuracy in zip(result.trained_epochs, result.accuracies, strict=True)
        if accuracy is not None
    )
    return f"{'up to ' if early else ''}{count_text(result.epochs, 'epoch')}"


def _weights_text(result: FinalTest) -> str:
    if result.train_on_val:
        return "the weights after the last epoch"
    epochs = ", ".join("-" if epoch is None else str(epoch) for epoch in result.measured_epochs)
    return f"the weights of {'its best epoch' if len(result.seeds) == 1 else 'the best epochs'}, {epochs}"
