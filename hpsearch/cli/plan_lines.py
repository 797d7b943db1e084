"""What people see of a stage before it begins: what it searches, how, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpsearch.cli.output import line
from hpsearch.space import format_range, format_value
from hpsearch.wording import count_text, duration_text, listed_text, trials_text

if TYPE_CHECKING:
    from hpsearch.config import StageConfig
    from hpsearch.space import Narrowing
    from hpsearch.stages.plan import StagePlan
    from hpsearch.tuning.settling import Settled

WORTH_A_WORD = 1.1  # times as fast


def print_plan(plan: StagePlan, outlook: Settled) -> None:
    """What a stage would do."""
    settings = plan.settings
    source = f" from {plan.source}" if plan.source else ""
    each = trials_text(outlook.num_trials, outlook.num_epochs)
    if settings.epochs_budget is not None:
        most = count_text(settings.epochs, "epoch")
        each = f"{count_text(settings.epochs_budget, 'epoch')}, as many trials as fit, each of up to {most}"
    line("study", f"{plan.name}{source}: {each}, {plan.chosen or settings.sampler}")
    if plan.changes:
        print_changes(plan.changes)
    else:
        for name, range_ in plan.config.space.items():
            line(name, format_range(range_))
    for name in plan.config.space:
        if when := plan.conditions.clauses.get(name, ()):
            line("only", f"{name} where {' and '.join(f'{key} is {_either(values)}' for key, values in when)}")
    if settings.halving != "none":
        line("rungs", rungs_text(settings, outlook.num_trials, has_epochs=outlook.has_epochs))
    for trial in plan.continued:
        line("goes on", f"trial {trial.origin.trial} of {trial.origin.study} from epoch {trial.origin.epoch}")
    for label, text in outlook_lines(outlook):
        line(label, text)
    from hpsearch.stages.confirming import first_number, num_calls

    if calls := num_calls(plan.config, plan.kind):
        line("again", calls_text(calls, first_number(settings.trials), settings.sampler))
    if settings.repeat_best:
        seeds = count_text(settings.repeat_seeds, "other seed")
        line("again", f"then the {count_text(settings.repeat_best, 'best trial')}, with {seeds} each")
    if outlook.num_trials != settings.trials:
        line(
            "note",
            f"the largest balanced grid within {count_text(settings.trials, 'trial')} has {outlook.num_trials} points",
        )


def print_changes(changes: Sequence[Narrowing]) -> None:
    """Old range -> new range, with the reason."""
    for change in changes:
        line(change.param, f"{format_range(change.old)} -> {format_range(change.new)}   {change.reason}")


def calls_text(num_calls: int, first: int, sampler: str) -> str:
    """`from trial 35 on, the best one is called again up to 3 times before another is tried`."""
    leader = "of the best few the most promising one" if sampler == "gp" else "the best one"
    again = f"{leader} is called again up to {count_text(num_calls, 'time')}"
    return f"from trial {first} on, {again} before another is tried"


def rungs_text(settings: StageConfig, num_trials: int, *, has_epochs: bool = True) -> str:
    """`after 1 and 3 epochs the best 1 in 3 is promoted; about 63 epochs in all`.

    Of trials that are told no number of epochs, nobody knows how many they report.
    """
    from hpsearch.stages.halving import Halving

    halving = Halving.of(settings)
    epochs = listed_text([str(rung) for rung in halving.rungs])
    what = "is promoted, the others wait" if settings.halving == "promote" else "goes on, the others end"
    cost = halving.expected_epochs(num_trials)
    total = f"; about {count_text(cost, 'epoch')} in all" if settings.epochs_budget is None and has_epochs else ""
    step = "epoch" if has_epochs else "step"
    return f"after {epochs} {step if epochs == '1' else f'{step}s'} the best 1 in {settings.reduction} {what}{total}"


def _either(values: tuple[Any, ...]) -> str:
    return " or ".join(map(format_value, values))


def outlook_lines(outlook: Settled) -> list[tuple[str, str]]:
    """How a stage would be trained, how long that takes, and what that was concluded from; each with its word."""
    tuning = outlook.tuning
    proposals = [("sampler", str(outlook.knowledge))] if outlook.knowledge is not None else []
    if tuning is None:
        return [*proposals, ("time", f"not known: {outlook.unknown}")]
    each = f"{_number(tuning.workers, 'worker')}{', each' if tuning.workers > 1 else ''}"
    how = f"engine {tuning.engine}, {outlook.precision}"
    where = f"on {outlook.devices[0]}, {how}, {each} with {_number(tuning.threads, 'thread')}"
    step = f"{duration_text(tuning.step)} a step for {_number(tuning.width, 'trial')}, engine {tuning.engine}"
    rank = f", the best of {tuning.num_compared} ways" if tuning.num_compared > 1 else ""
    packs = count_text(outlook.num_packs, "pack")
    if outlook.plan.settings.has_rungs:
        packs = "packs"  # as many as the rungs leave
    lines = [
        *proposals,
        ("packs", f"{packs} of {_number(tuning.width, 'trial')} {where}"),
        ("time", f"about {duration_text(outlook.seconds or 0.0)}"),
        ("measured", f"{step}{rank}"),
    ]
    if tuning.bfloat16 is not None and tuning.bfloat16 >= WORTH_A_WORD:
        faster = f"{tuning.bfloat16:.1f} x as fast, but less exact"
        lines.append(("bfloat16", f"a step would be {faster}: --set train.precision=bfloat16"))
    return lines


def _number(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"
