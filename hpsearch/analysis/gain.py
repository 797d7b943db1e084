"""What a stage gained over the best one before it, and whether that is worth another stage. Pure.

A trial that was called again stands for the mean of its calls. The best first value of a stage is partly luck, so it is
no measure for a mean: where it is higher, nobody knows which of the two is better, and that is what is said.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.called_again import TriedAgain
from hpsearch.analysis.chance import standard_error
from hpsearch.analysis.summary import StageSummary
from hpsearch.config.metric import Metric
from hpsearch.storage import TrialRow
from hpsearch.wording import count_text

MIN_GAIN = 0.005  # of a share, as val_acc: with many validation images, what is still worth a stage
MIN_SHARE = 0.01  # of the value before: the same for what is no share, as val_loss


@dataclass(frozen=True)
class Standing:
    """What the best trial of a stage is worth."""

    value: float
    num_calls: int = 1
    """Of which the value is the mean; 0 where the trial gave none when it was called again."""
    is_first: bool = True
    """Whether it is the one value by which the trial was chosen, which is the higher the luckier it was."""


def gain_over(before: StageSummary, last: StageSummary, num_val: int, asked: float | None) -> tuple[bool, str]:
    """Whether a stage gained enough, and the sentence that says so.

    Args:
        before: the best stage of those before it.
        last: the stage. Both have a best trial.
        num_val: validation images.
        asked: how much is enough; None: MIN_GAIN, MIN_SHARE or one standard error.
    """
    enough, said = _gain_over(before, last, num_val, asked)
    if not enough and last.ahead_once is not None:
        said += f"; its {_reached_text(last.ahead_once, last.metric)}, which may be luck"
    return enough, said


def ahead_once_text(trial: TrialRow, metric: Metric) -> str:
    """Of a trial whose one value is better than the mean by which the best one was chosen."""
    return f"{_reached_text(trial, metric)}, better than that mean; it may be luck, as it was not called again"


def ahead_of(found: StageSummary, stages: Sequence[StageSummary]) -> tuple[StageSummary, TrialRow] | None:
    """The best trial of one call that is better than the mean of the best of all, and that no stage has called since.

    Args:
        found: the stage of the best one.
        stages: all of them.
    """
    if found.mean is None:
        return None
    goodness, ahead = found.metric.goodness, [(each, each.ahead_once) for each in stages]
    known = [
        (stage, trial)
        for stage, trial in ahead
        if trial is not None and goodness(trial.value) > goodness(found.mean) and not _is_tried(stage, trial, stages)
    ]
    return max(known, key=lambda pair: goodness(pair[1].value), default=None)


def _is_tried(stage: StageSummary, trial: TrialRow, stages: Sequence[StageSummary]) -> bool:
    return any(_is_of(tried, stage.study, trial.params) for each in stages for tried in each.tried)


def _is_of(tried: TriedAgain, study: str, params: Mapping[str, Any]) -> bool:
    return tried.study == study and all(name in params and params[name] == v for name, v in tried.params.items())


def _reached_text(trial: TrialRow, metric: Metric) -> str:
    assert trial.value is not None
    return f"trial {trial.number} reached {metric.text(trial.value)} in one call"


def _gain_over(before: StageSummary, last: StageSummary, num_val: int, asked: float | None) -> tuple[bool, str]:
    if (said := _nothing_new(last)) is not None:
        return False, said
    metric, (now, then) = last.metric, _standings(before, last)
    if not then.num_calls:
        return False, (
            f"the best of {before.study}, {metric.text(then.value)} at first, gave no value when {last.study} called it"
            " again, so nothing was gained over it that could be counted"
        )
    epochs = _epochs_text(before, last)
    gained = metric.goodness(now.value) - metric.goodness(then.value)
    if gained < 0 and then.is_first and not now.is_first:
        return False, (
            f"{last.study} holds {metric.text(now.value)} of {metric.column} in the mean of"
            f" {count_text(now.num_calls, 'call')};"
            f" {before.study} reached {metric.text(then.value)} in one call, which may be luck{epochs}"
        )
    by = "" if now.is_first or then.is_first else " in the mean of their calls"
    if gained < 0:
        compared = "less than" if metric.is_accuracy else f"worse {metric.column} than"
        return False, f"{last.study} reached {metric.text(abs(gained))} {compared} {before.study}{by}{epochs}"
    error = standard_error(now.value, num_val) if metric.is_accuracy else 0.0
    least = MIN_GAIN if metric.is_share else MIN_SHARE * abs(then.value)
    threshold = asked if asked is not None else max(least, error)
    enough = gained >= threshold and gained > 0
    of = "" if metric.is_accuracy else f" of {metric.column}"
    noise = f"one standard error of {now.value:.4f} on {num_val} images"
    if not metric.is_accuracy:
        measure = f"{threshold:.4g}" + (f", {MIN_SHARE:.0%} of it" if asked is None and not metric.is_share else "")
    elif asked is None and error > MIN_GAIN:
        measure = f"{threshold:.4f}, {noise}"
    else:
        measure = f"{threshold:.4f}; {noise} is {error:.4f}"
        measure += ", so it may be luck" if enough and gained < error else ""
    if enough and now.is_first and not then.is_first:
        measure += f"; but the best of {last.study} was called once, so it may be luck"
    elif not enough and then.is_first and not now.is_first:
        measure += f"; the best of {before.study} was called once, so it may be more"
    word = "less than" if not enough else "more than" if gained > threshold else "as much as"
    return enough, f"{last.study} gained {metric.text(gained)}{of} over {before.study}{by}{epochs}: {word} {measure}"


def may_be_luck(before: StageSummary, last: StageSummary) -> bool:
    """Whether the best of an earlier stage is ahead of the mean of the last one, but by a value of one call.

    Where the last one called it and got no value, that is known, so it is none to call again.
    """
    now, then = _standings(before, last)
    goodness = last.metric.goodness
    return then.num_calls > 0 and then.is_first and not now.is_first and goodness(then.value) > goodness(now.value)


def calls_in(before: StageSummary, last: StageSummary) -> tuple[float | None, ...]:
    """What the best trial of an earlier stage gave when a later one called it; None where it exploded or failed."""
    if before.best is None:
        return ()
    known = before.best.params
    return tuple(value for tried in last.tried if _is_of(tried, before.study, known) for value in tried.values)


def called_later_text(stage: StageSummary, later: Sequence[StageSummary]) -> str:
    """What the best of a stage gave in those after it: ` (called again in fine: 0.9120)`; nothing where it was not."""
    said = []
    for each in later:
        if again := calls_in(stage, each):
            values = ", ".join("none" if value is None else each.metric.text(value) for value in again)
            said.append(f"called again in {each.study}: {values}")
    return f" ({'; '.join(said)})" if said else ""


def _nothing_new(last: StageSummary) -> str | None:
    """Where the best of a stage is a trial of an earlier one that it called: the sentence that says so."""
    assert last.best is not None
    origin = last.best.attrs.get(attributes.TRIED_IN)
    if not origin:
        return None
    better = "nothing better" if last.ahead_once is None else "nothing with a better mean"
    return f"{last.study} found {better} than a trial of {origin}, which it called again"


def _standings(before: StageSummary, last: StageSummary) -> tuple[Standing, Standing]:
    """Of the last stage and of the one before.

    Of nets, of which one stage alone was trained again, the first values are compared: both were chosen.
    """
    now, then = _standing(last), _standing(before)
    if not last.metric.is_own:
        return (_first(last), _first(before)) if now.is_first or then.is_first else (now, then)
    again = calls_in(before, last)
    if None in again:
        return now, Standing(then.value, 0)
    if not again:
        return now, then
    values = [*[then.value] * then.num_calls, *(value for value in again if value is not None)]
    return now, Standing(statistics.fmean(values), len(values), is_first=False)


def _standing(stage: StageSummary) -> Standing:
    if stage.mean is None:
        return _first(stage)
    best = stage.repeated[0]
    return Standing(stage.mean, len(best.values) + best.counts_first, is_first=False)


def _first(stage: StageSummary) -> Standing:
    assert stage.best is not None
    assert stage.best.value is not None
    return Standing(stage.best.value)


def _epochs_text(before: StageSummary, last: StageSummary) -> str:
    if last.epochs == before.epochs:
        return ""
    fewer = (last.epochs or 0) < (before.epochs or 0)
    not_alike = ", so the two are not comparable" if fewer else ""
    return f" ({count_text(last.epochs, 'epoch')} against {before.epochs}{not_alike})"
