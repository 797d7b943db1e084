"""What a Gaussian process and CMA-ES are told of trials that rungs or pruners ended, or that wait at a rung."""

import pytest

from hpsearch.config import FloatRange, StageConfig
from hpsearch.config.metric import ACCURACY, known_metric
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.suggestions import SuggestingMirror
from hpsearch.storage import TrialRow

RANGE = FloatRange(0.0, 1.0)
LOSS = known_metric("loss", "minimize")


def mirror_of(sampler="gp", metric=ACCURACY, kind=Mirror, space=("x",)):
    """Of a stage that knows trials which are the better the higher x is, and the worst at the very end."""
    sign = metric.goodness(1.0)
    ranges = dict.fromkeys(space, RANGE)
    known = [(x / 20, x / 20) for x in range(16)]
    earlier = [EarlierTrial("coarse", 3, dict.fromkeys(space, x), sign * value, ranges) for x, value in known]
    settings = StageConfig(trials=10, sampler=sampler, seed=1, epochs=3, halving="stop")
    trials = [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(10)]
    if kind is SuggestingMirror:
        return SuggestingMirror("fine", settings, trials, metric=metric, earlier=earlier)
    return Mirror("fine", ranges, settings, trials, metric=metric, earlier=earlier)


def told(mirror):
    """The complete trials of this stage that the sampler sees."""
    with mirror._as_told():
        seen = mirror.study.get_trials()
    return {trial.number: trial.value for trial in seen if trial.number >= 0 and trial.state.name == "COMPLETE"}


@pytest.mark.parametrize("ending", ["ended", "waits", "ended elsewhere"])
def test_the_place_of_a_trial_that_was_behind_is_not_proposed_again(ending):
    """Told nothing of it, a Gaussian process proposed the upper end for one trial after the other."""
    mirror = mirror_of()
    proposed = []
    for number in range(4):
        x = mirror.propose(number)["x"]
        if x > 0.78 and ending == "ended elsewhere":
            mirror.learn([TrialRow(number, number, "PRUNED", 0.0, {"x": x}, {"x": RANGE}, {1: 0.0})])
        else:
            mirror.report(number, 1, 0.0 if x > 0.78 else x)
            if x <= 0.78:
                mirror.finish(number, x)
            elif ending == "waits":
                mirror.pause(number, 1)
            else:
                mirror.finish(number, None)
        proposed.append(x)
    assert proposed[0] > 0.95
    assert all(abs(x - proposed[0]) > 0.02 for x in proposed[1:])


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_it_is_told_by_its_best_value_and_what_further_epochs_gave(sampler, metric):
    """But as no better than the median: here of 16 trials of before, at 0, 0.05, ... 0.75, and three at 0.6."""
    mirror, sign = mirror_of(sampler, metric), metric.goodness(1.0)
    for number in range(3):
        mirror.adopt(number, {"x": 0.6})
        for epoch, value in enumerate((0.4, 0.3, 0.6), start=1):
            mirror.report(number, epoch, sign * value)
        mirror.finish(number, sign * 0.6)
    for number, values in {3: [0.1, 0.05], 4: [0.9], 5: [float("nan")]}.items():
        mirror.adopt(number, {"x": 0.9})
        for epoch, value in enumerate(values, start=1):
            mirror.report(number, epoch, sign * value)
        mirror.finish(number, None)
    assert told(mirror) == pytest.approx({0: sign * 0.6, 1: sign * 0.6, 2: sign * 0.6, 3: sign * 0.3, 4: sign * 0.45})


def test_one_that_is_promoted_runs_again_and_ends_with_its_own_value():
    mirror = mirror_of()
    mirror.adopt(0, {"x": 0.5})
    mirror.report(0, 1, 0.2)
    mirror.pause(0, 1)
    assert told(mirror) == {0: 0.2}
    mirror.adopt(0, {"x": 0.5})
    assert told(mirror) == {}
    mirror.report(0, 3, 0.7)
    mirror.finish(0, 0.7)
    assert told(mirror) == {0: 0.7}


def test_one_that_was_ended_before_it_asked_for_all_leaves_what_is_proposed_together():
    """Of what all complete trials have in common, a Gaussian process proposes all at once; the rest is drawn."""
    mirror = mirror_of(kind=SuggestingMirror, space=("x", "y"))
    for number in range(3):
        mirror.begin(number)
        proposed = mirror.propose_together(number)[0]
        assert proposed.keys() == {"x", "y"}
        if number:
            mirror.keep_proposed(number, proposed)  # it is told with that, the first one is left out
        mirror.suggest(number, "x", RANGE)
        mirror.report(number, 1, 0.1)
        mirror.finish(number, None)
    assert told(mirror).keys() == {1, 2}
