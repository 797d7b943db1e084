"""After a stage: search again, or stop? Pure; from what the stages say, with the reason in words.

The procedure goes on until the best trial is inside every range and a stage gains nothing worth another one. Two
accuracies on n images that lie closer than one standard error, sqrt(p (1 - p) / n), cannot be told apart by those
images, so a gain below it counts as none unless the user says how much is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpsearch.analysis.chance import TELLING, most_errors
from hpsearch.analysis.gain import calls_in, gain_over
from hpsearch.analysis.summary import StageSummary
from hpsearch.config import Choice, IntRange
from hpsearch.config.metric import Metric
from hpsearch.space import Verdict, format_range, format_value
from hpsearch.space.scale import num_values, with_ends
from hpsearch.wording import count_text

MAX_STAGES = 4  # coarse, fine, fine-2, fine-3
FEW_VALUES = 3  # an int range of up to so many values is mostly ends


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends the procedure."""

    gain: float | None = None
    """Of the metric, as val_acc: a stage that gains less is the last one.

    None: MIN_GAIN, or one standard error of val_acc where that is more; of what is no share, MIN_SHARE of the value.
    """
    max_stages: int = MAX_STAGES
    """The coarse one included."""
    seconds: float | None = None
    """Wall clock, from the start of the command; None has no end."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to search again, and why."""

    ending: Literal["settled", "stages", "time", "nothing", "luck"] | None
    """Why this is the end: inside and no gain, --max-stages, --time, no trial finished, no better than a guess. None:
    go on."""
    reason: str

    @property
    def go_on(self) -> bool:
        """Whether another stage follows."""
        return self.ending is None


def decide(stages: Sequence[StageSummary], num_val: int, limits: Limits, *, time_is_up: bool = False) -> Decision:
    """What to do after the last of some stages.

    Args:
        stages: of this procedure, from coarse on.
        num_val: validation images.
        limits: see there; `seconds` is the caller's to watch.
        time_is_up: whether `limits.seconds` have passed.
    """
    last = stages[-1]
    if last.num_finished < last.num_trials:
        return Decision(
            "time",
            f"the time is up; {last.study} is left at {last.num_finished} of {count_text(last.num_trials, 'trial')}",
        )
    if last.stopped is not None:
        return _after_stopped(stages, limits, time_is_up=time_is_up)
    if last.best is None or last.best.value is None:
        return Decision("nothing", f"no trial of {last.study} finished, so there is nothing to narrow by")
    if (luck := luck_text(stages)) is not None:
        return Decision("luck", luck)
    wishes, content = _wishes(stages, last.best.value, num_val, limits)
    if not wishes:
        return Decision("settled", "; ".join(content))
    if len(stages) >= limits.max_stages:
        return Decision("stages", f"{len(stages)} stages are the most allowed, though {'; '.join(wishes)}")
    if time_is_up:
        return Decision("time", f"the time is up, though {'; '.join(wishes)}")
    return Decision(None, "; ".join(wishes))


def _after_stopped(stages: Sequence[StageSummary], limits: Limits, *, time_is_up: bool) -> Decision:
    """No trial came to its last epoch. A fine stage narrows by what rungs stopped; if it ends so too, that is all."""
    said = f"no trial of {stages[-1].study} came to its last epoch"
    if stages[-1].stage != "coarse" or len(stages) >= limits.max_stages:
        return Decision("nothing", said)
    wish = f"{said}: narrow to where those that were stopped did well"
    return Decision("time", f"the time is up, though {wish}") if time_is_up else Decision(None, wish)


def luck_text(stages: Sequence[StageSummary]) -> str | None:
    """Where the best of all trials is no better than a guess: the sentence that says so."""
    best, images = best_stage(stages), stages[-1].images
    num_trials = sum(stage.num_complete for stage in stages)
    if best is None or not best.metric.is_accuracy or not images.is_luck(_value(best), num_trials):
        return None
    luck, chance, error = images.luck(num_trials), images.chance, images.error
    return (
        f"the best val_acc, {_value(best):.4f}, is no better than chance ({chance:.2f} ± {error:.2f} on"
        f" {images.num_val} images): of {count_text(num_trials, 'trial')} that guess, the best reaches about {luck:.2f}"
    )


def best_stage(stages: Sequence[StageSummary]) -> StageSummary | None:
    """The stage with the best trial; the latest among equals, since it has the most evidence behind it.

    Stages with another metric than the last one cannot be compared with it. One over code that called its best trials
    again has called the leaders of those before it, too, whose values may have been luck: it counts before them. One
    whose best trial gave no value when a later stage called it counts only where there is no other.
    """
    finished = [stage for stage in stages if stage.best is not None and stage.metric == stages[-1].metric]
    held = [stage for place, stage in enumerate(finished) if not _failed_in(stage, finished[place + 1 :])]
    finished = held or finished
    if called := [stage for stage in finished if stage.metric.is_own and stage.repeated]:
        return max(reversed(called), key=lambda stage: stage.metric.goodness(stage.repeated[0].mean))
    return max(reversed(finished), key=lambda stage: stage.metric.goodness(_value(stage)), default=None)


def _failed_in(stage: StageSummary, later: Sequence[StageSummary]) -> bool:
    return any(None in calls_in(stage, each) for each in later)


def _wishes(stages: Sequence[StageSummary], value: float, num_val: int, limits: Limits) -> tuple[list[str], list[str]]:
    """What speaks for another stage, and what against."""
    *earlier, last = stages
    if last.stage == "coarse":
        # Ranges over code stay before a Gaussian process that knows all of the trials: those of as many epochs.
        on = "search on where it worked" if last.metric.is_own else "narrow to where it worked"
        if last.epochs is None:
            return [f"{last.study} is a coarse search: {on}"], []
        is_longer = last.fine_epochs is None or last.fine_epochs > last.epochs
        on = "narrow to where it worked and train longer" if is_longer else on
        return [f"{last.study} trained {count_text(last.epochs, 'epoch')}: {on}"], []
    if last.metric.is_share and value >= 1:
        return [], [_perfect_text(last.metric, value, num_val)]
    wishes, content = [], []
    whose = "" if best_stage(stages) is last else f" of {last.study}"  # else it would pass for the best of all
    moving = [verdict for verdict in last.verdicts if is_unsettled(verdict, earlier)]
    held = [v for v in last.verdicts if v.verdict in ("lower", "upper") and v not in moving]
    wishes += [_boundary_text(verdict, whose, "so the range was wrong") for verdict in moving]
    if not moving:
        content.append(f"the best{whose} is inside every range" + (" that can move" if held else ""))
        content += [_boundary_text(verdict, whose, "and there is nothing new beyond it") for verdict in held]
    if (before := best_stage(earlier)) is not None:
        gained, text = gain_over(before, last, num_val, limits.gain)
    else:
        gained, text = True, f"{last.study} is the first stage with a result"
    (wishes if gained else content).append(text)
    return wishes, content


def is_unsettled(verdict: Verdict, earlier: Sequence[StageSummary]) -> bool:
    """Whether the best sits on an end of its range with unknown ground beyond.

    An end that cannot move (a hard limit, an edge of explosions) is settled. An int range of two or three values has
    its best on an end nearly always; such an end is settled where an earlier stage has searched the next value.
    """
    proposed, low, high = verdict.proposed, verdict.low, verdict.high
    if verdict.verdict not in ("lower", "upper") or isinstance(proposed, Choice) or low is None or high is None:
        return False
    lower = verdict.verdict == "lower"
    if not (proposed.low < low if lower else proposed.high > high):
        return False
    if isinstance(proposed, IntRange) and num_values(with_ends(proposed, low, high)) <= FEW_VALUES:
        neighbour = verdict.best + (-proposed.step if lower else proposed.step)
        searched = [v for stage in earlier for v in stage.verdicts if v.param == verdict.param]
        return not any(v.low is not None and v.high is not None and v.low <= neighbour <= v.high for v in searched)
    return True


def searched_beyond(verdict: Verdict, later: Sequence[StageSummary]) -> tuple[StageSummary, Verdict] | None:
    """The first of some later stages that goes beyond the end on which the best of a stage sits, and its own verdict.

    None without one. A stage in which nothing finished has searched nothing.
    """

    def is_beyond(other: Verdict) -> bool:
        if verdict.verdict == "lower":
            return other.low is not None and verdict.low is not None and other.low < verdict.low
        return other.high is not None and verdict.high is not None and other.high > verdict.high

    if verdict.verdict not in ("lower", "upper"):
        return None
    own = ((stage, other) for stage in later for other in stage.verdicts if other.param == verdict.param)
    return next(((stage, other) for stage, other in own if is_beyond(other)), None)


def beyond_text(stage: StageSummary, verdict: Verdict) -> str:
    """`fine has searched beyond it, in [1e-05, 1e+00]`, of what `searched_beyond` found."""
    assert verdict.low is not None
    assert verdict.high is not None
    has = "has searched" if stage.num_finished == stage.num_trials else "searches"
    low, high = (format_value(end, verdict.proposed) for end in (verdict.low, verdict.high))
    return f"{stage.study} {has} beyond it, in [{low}, {high}]"


def _boundary_text(verdict: Verdict, whose: str, consequence: str) -> str:
    proposed, low, high = verdict.proposed, verdict.low, verdict.high
    assert not isinstance(proposed, Choice)
    assert low is not None
    assert high is not None
    old, best = format_range(with_ends(proposed, low, high)), format_value(verdict.best, proposed)
    return f"the best {verdict.param}{whose}, {best}, is at the {verdict.verdict} end of {old}, {consequence}"


def _perfect_text(metric: Metric, value: float, num_val: int) -> str:
    """Without an error on few images, not much is known."""
    left = most_errors(num_val)
    if left <= TELLING or metric.name == "auroc":  # of which no error is known
        return f"{metric.column} is 1 on {num_val} images: there is nothing left to gain"
    told = f"{value:.4f} on {count_text(num_val, 'image')}: nothing here can tell better ones apart"
    return f"{told}, and new images may give {1 - left:.2f}; hold out more (data.val)"


def _value(stage: StageSummary) -> float:
    assert stage.best is not None
    assert stage.best.value is not None
    return stage.best.value
