"""rerun: the command that trains one trial again, and what it says of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import TrustOption, read_settings
from hpsearch.cli.signals import ending_in_order
from hpsearch.wording import count_text, value_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpsearch.search.rerun import Rerun
    from hpsearch.search.stored_trials import Training


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
        from hpsearch.cli.waiting import data_progress
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
