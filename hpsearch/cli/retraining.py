"""test and rerun: the commands that train one trial again."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings
from hpsearch.cli.signals import StoppedError, raise_terminated, stopped
from hpsearch.wording import count_text, value_text

TrustOption = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Allow code that the database names: mynets, or mynets:small. Repeatable."),
]

ViewsOption = Annotated[
    str | None,
    typer.Option(metavar="VIEWS", help="Average over views of an image: flip, or ten-crop."),
]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpsearch.search.final_result import FinalTest
    from hpsearch.search.rerun import Rerun
    from hpsearch.search.stored_trials import Training

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
        from hpsearch.cli.progress import data_progress
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


@with_groups
def rerun(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    number: Annotated[int, typer.Argument(metavar="N", min=0)],
    storage: Storage,
    output: Output,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="K", help="Train, or call, K times: with the trial's seed and the next.")
    ] = 5,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    trust: TrustOption = None,
) -> None:
    """Train one trial again from its stored config: does it follow its curve, and how much do seeds alone move it?

    A function or program of yours is called again, with other seeds where it takes one. Nothing is written. A pack of
    another width rounds differently, so a curve that only rounding explains counts as followed; with --seeds 1 it is
    the curve alone.

    Example: `hpsearch rerun fine 5 --seeds 5`
    """
    settings = read_settings(storage=storage.storage, flags={"run.device": device}, trusted=trust)
    with ending_in_order():
        from hpsearch.cli.progress import data_progress
        from hpsearch.search.rerun import rerun as train_again
        from hpsearch.storage import open_database

        def seed_ended(training: Training) -> None:
            if seeds > 1 and not output.quiet:
                said = (
                    f"{training.metric.column} {value_text(training.value)}"
                    if training.value is not None
                    else "exploded"
                )
                typer.echo(f"seed {training.seed}: {said}" if training.takes_seed else f"again: {said}", err=True)

        db = open_database(settings.run.storage)
        with data_progress(output.quiet or output.as_json) as progress:
            result = train_again(
                db, settings.run, study, number, num_seeds=seeds, progress=progress, seed_ended=seed_ended
            )
    if output.as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        _print_rerun(result)


def _print_rerun(result: Rerun) -> None:
    from hpsearch.cli.output import line

    followed = "followed its recorded curve" if result.comparison.num_epochs else "gave its recorded value"
    matches = {
        "exact": f"{followed} exactly",
        "rounding": f"{followed} but for rounding",
        "different": "did NOT follow its recorded curve",
        "nothing recorded": f"has no recorded {result.step_name} to compare with",
    }
    said, style = matches[result.comparison.match], "red" if result.comparison.match == "different" else ""
    if result.comparison.num_epochs or not result.metric.is_own:
        said += f" ({count_text(result.comparison.num_epochs, result.step_name)})"
    elif result.comparison.match == "different":
        then, now = (value_text(value) for value in (result.value_then, result.trainings[0].value))
        said = f"did NOT give its recorded value: {then} then, {now} now"
    line("trial", f"{result.number} of {result.study} {said}", style)
    largest = {name: value for name, value in result.comparison.differences.items() if value}
    if result.metric.is_own and "val_score" in largest:
        largest = {result.metric.column: largest["val_score"]}
    if largest:
        line("largest", " · ".join(f"{name} {value:.1e}" for name, value in largest.items()))
    for name, (then, now) in result.other_versions.items():
        changed = then.startswith("sha256:")
        line("note", f"{name} has changed since" if changed else f"{name} was {then} then and is {now} now")
    if result.recorded_explosion or result.explosion:
        line("exploded", _explosion_text(result))
    if len(result.trainings) == 1:
        return
    num_exploded = len(result.trainings) - len(result.values)
    exploded = f"{num_exploded} of {len(result.trainings)} exploded" if num_exploded else ""
    said = "; ".join(part for part in (_spread_text(result), exploded) if part)
    line("seeds" if result.takes_seed else "calls", said)
    if result.std is not None and result.best_gap is not None:
        moved_by = "seeds" if result.takes_seed else "calls"
        line("meaning", _meaning(result.std, result.best_gap, result.metric.text, moved_by))


def _spread_text(result: Rerun) -> str:
    """How far apart the values are; empty where there are none."""
    if not result.values:
        return ""
    number, column, num = result.metric.text, result.metric.column, len(result.values)
    if not result.takes_seed and result.is_deterministic:
        return f"{num} without a seed, which it does not take: {column} {number(result.values[0])} each time"
    mean = sum(result.values) / num
    spread = f", std {number(result.std)}" if result.std is not None else ""
    text = f"{column} {number(mean)}{spread}, from {number(min(result.values))} to {number(max(result.values))}"
    if not result.takes_seed:
        return f"{num} without a seed, which it does not take: {text}"
    return f"{num}: {text}"


def _explosion_text(result: Rerun) -> str:
    def where(place: tuple[int, int]) -> str:
        if result.metric.is_own:
            return f"in {result.step_name} {place[0]}" if place[0] else "with its value"
        return f"in epoch {place[0]}, step {place[1]}"

    then, now = result.recorded_explosion, result.explosion
    if then is None and now is not None:
        return f"now {where(now)}, but not when it was recorded"
    assert then is not None
    if now is None:
        return f"{where(then)} when it was recorded, but not now"
    return f"{where(now)}, as recorded" if now == then else f"{where(now)}; recorded {where(then)}"


def _meaning(std: float, gap: float, text: Callable[[float], str], moved_by: str) -> str:
    """What the spread over seeds, or over calls without one, says of the order of the stage's trials."""
    if gap == 0:
        return "the two best trials have the same value: which of them is first is luck"
    lead, spread = f"the best trial leads the second by {text(gap)}", f"(std {text(std)})"
    if std == 0:
        return f"{lead}, and {moved_by} move nothing"
    if gap < std:
        return f"{lead}, less than {moved_by} move one trial {spread}: which of them is first is luck"
    if gap < 2 * std:
        return f"{lead}, within twice what {moved_by} move one trial {spread}: it may be luck"
    return f"{lead}, more than twice what {moved_by} move one trial {spread}"


@contextmanager
def ending_in_order(said: str = "stopped; nothing was written.") -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command with their exit codes."""
    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    except KeyboardInterrupt as stop:
        raise StoppedError(said, stopped(stop).exit_code) from None
