"""Calling the best trial again while there is still time to choose another one. Pure.

Of many noisy values the best one is partly luck, and a search that ends with it names a trial that does not hold what
it promised. So in the last part of a stage whoever leads is called again, `confirm` times. If its mean falls behind,
another one leads, and is called again. Once a leader has held, the search goes on. A trial of an earlier stage that
leads is called as a trial of this one. Measured on surfaces, see docs/log.md: one call does what three do, and costs
fewer trials. A Gaussian process tries many trials near the best one; there it is not the highest value that leads, but
the one of the few best of which all trials together promise most: see `stages.expected_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.called_again import MAX_FAILED, Called, best_called_first
from hpsearch.config import StudyConfig
from hpsearch.config.schema import LEARNING_SAMPLERS
from hpsearch.results import Direction
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.storage import TrialRow

SHARE = 0.3  # of a stage's trials, at its end
CANDIDATES = 5  # one of these is the best in the end, but for bad luck: others do not come to be called again
LEAST = 10  # trials of a stage, below which all are for searching
CALLS = 1  # of a leader again, where the study file says nothing


def num_calls(config: StudyConfig, kind: str) -> int:
    """So many times a leader of this stage is called again; 0 where nothing is."""
    if config.objective is None or kind not in ("coarse", "fine"):
        return 0
    settings = config.stage(kind)
    if settings.sampler not in LEARNING_SAMPLERS or settings.trials < LEAST:
        return 0
    if settings.confirm is None:
        return CALLS if kind == "fine" else 0
    return settings.confirm


def num_candidates(config: StudyConfig, kind: str) -> int:
    """Of how many of the best trials the states are kept: of those that may turn out to be the best."""
    return CANDIDATES if num_calls(config, kind) else 1


def first_number(num_trials: int) -> int:
    """The first trial that may be a call of another one again."""
    return num_trials - int(SHARE * num_trials)


def params_tried(trials: Iterable[TrialRow]) -> list[dict[str, Any]]:
    """Of earlier stages' trials that this one has called, or is about to; a call that failed is made once more."""
    tried = [trial for trial in trials if attributes.TRIED_IN in trial.attrs]
    failed = [trial.params for trial in tried if trial.state == "FAIL"]
    others = [trial.params for trial in tried if trial.state != "FAIL"]
    return others + [params for params in failed if failed.count(params) >= MAX_FAILED]


def candidates(
    calls: Sequence[Called],
    earlier: Sequence[EarlierTrial],
    tried: Sequence[Mapping[str, Any]],
    epochs: int,
    under_way: Sequence[Mapping[str, Any]] = (),
) -> list[Called]:
    """Those of the stage, and those of earlier ones that had as many epochs and have no value in this one yet.

    The latter have the number -1 less their place, of which they are all in the order of `earlier`.

    Args:
        calls: of the stage's own trials.
        earlier: trials of the stages before.
        tried: what this one has called of them, or is about to.
        epochs: of this one's trials.
        under_way: of those tried, what has not ended.
    """
    found = list(calls)
    for place, trial in enumerate(earlier):
        params, is_alike = dict(trial.params), trial.epochs in (None, epochs)
        if trial.value is not None and is_alike and (params not in tried or params in under_way):
            found.append(Called(-1 - place, trial.value, num_running=int(params in under_way)))
    return found


def to_call_again(
    calls: Sequence[Called],
    num_calls: int,
    direction: Direction,
    expect: Callable[[Sequence[Called]], Sequence[float] | None] = lambda _calls: None,
) -> int | None:
    """The number of the trial to call next, of the stage or an earlier one; None where the search is to go on.

    It does where the leader has held, where none has a value, and while the leader's calls are under way: to call
    those behind it meanwhile would spend the more trials on calls the more workers there are.

    Args:
        calls: `candidates`.
        num_calls: of a leader.
        direction: of the values.
        expect: what is expected of some trials, the more the better; None where nobody knows. Of the best few it makes
            the one leader of which most is expected, in place of the best one.
    """
    best = [each for each in best_called_first(calls, direction)[:CANDIDATES] if each.mean is not None]
    if not best:
        return None
    expected = expect(best)
    # max takes the first of equals, as they stand in `best`
    leader = best[0] if expected is None else best[max(range(len(best)), key=lambda place: expected[place])]
    if leader.number < 0 and leader.num_running:  # from its first call on here, it is a trial of this stage
        return None
    return leader.number if len(leader.values) + leader.num_running < num_calls else None


def seed_of_call(seed: int, number: int, attrs: Mapping[str, Any]) -> int:
    """What the code of a trial is given: the seed of all, or one of its own where it calls another trial again."""
    return seed + number if attrs.keys() & {attributes.AGAIN, attributes.TRIED_IN} else seed
