"""What a Gaussian process is told of trials: in their order, the best as they are, nothing too far away."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import FloatRange, StageConfig
from hpsearch.config.metric import Metric
from hpsearch.results import goodness
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.suggestions import SuggestingMirror
from hpsearch.stages.told_values import FAR, told_values
from hpsearch.storage import TrialRow

VALUES = st.lists(st.none() | st.floats(-1e9, 1e9, allow_nan=False), max_size=30)
DIRECTIONS = st.sampled_from(["maximize", "minimize"])


@given(VALUES, DIRECTIONS)
def test_the_order_is_kept_and_nothing_is_better_than_it_was(values, direction):
    told = told_values(values, direction)
    assert len(told) == len(values)
    pairs = [(goodness(v, direction), goodness(t, direction)) for v, t in zip(values, told, strict=True)]
    for value, as_told in pairs:
        assert all(as_told <= other for known, other in pairs if value <= known)
        assert as_told >= value  # of what exploded, -inf


@given(VALUES.filter(lambda values: any(value is not None for value in values)), DIRECTIONS)
def test_the_better_half_is_told_as_it_is_and_none_is_far_behind(values, direction):
    told = told_values(values, direction)
    known = [goodness(value, direction) for value in values if value is not None]
    best, middle = max(known), statistics.median(known)
    for value, as_told in zip(values, told, strict=True):
        if value is not None and goodness(value, direction) >= middle:
            assert as_told == value
        assert goodness(as_told, direction) >= middle - FAR * (best - middle)


def test_what_exploded_is_told_as_the_worst_that_did_not():
    assert told_values([0.9, None, 0.8, 0.7], "maximize") == [0.9, 0.7, 0.8, 0.7]
    assert told_values([0.1, None, 0.2, 0.3], "minimize") == [0.1, 0.3, 0.2, 0.3]
    assert told_values([0.1, 0.2, 0.3, 1e6, None], "minimize") == pytest.approx([0.1, 0.2, 0.3, 0.7, 0.7])
    assert told_values([None, None], "minimize") == [0.0, 0.0]


@given(st.lists(st.none() | st.floats(allow_nan=True), max_size=30), DIRECTIONS)
def test_what_is_told_is_finite_and_so_are_its_squares(values, direction):
    told = told_values(values, direction)
    assert len(told) == len(values)
    assert all(math.isfinite(value * value) for value in told)
    pairs = [
        (goodness(v, direction), goodness(t, direction)) for v, t in zip(values, told, strict=True) if v is not None
    ]
    finite = [pair for pair in pairs if math.isfinite(pair[0])]
    assert all(one[1] <= other[1] for one in finite for other in finite if one[0] <= other[0])
    assert all(
        as_told == min(pair[1] for pair in finite) for value, as_told in pairs if finite and not math.isfinite(value)
    )


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_gaussian_process_takes_the_largest_floats_without_a_warning(direction):
    values = {x / 10: goodness(-1e300 * abs(x / 10 - 0.3), direction) for x in range(11)}
    assert proposal(direction, values, [0.95]) == pytest.approx(0.3, abs=0.15)


def proposal(direction, values, exploded):
    """The first one of a stage that knows these trials over x in [0, 1], and explosions, of a stage before."""
    space = {"x": FloatRange(0.0, 1.0)}
    earlier = [EarlierTrial("coarse", 1, {"x": x}, value) for x, value in values.items()]
    earlier += [EarlierTrial("coarse", 1, {"x": x}, None) for x in exploded]
    settings = StageConfig(trials=4, epochs=1, sampler="gp", seed=1)
    waiting = [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(4)]
    metric = Metric("loss", direction)
    mirror = Mirror("fine", space, settings, waiting, metric=metric, earlier=earlier)
    return mirror.propose(0)["x"]


def test_explosions_of_an_earlier_stage_do_not_draw_a_search_for_small_losses():
    losses = {x / 20: 1.0 + (x / 20 - 0.3) ** 2 for x in range(13)}
    x = proposal("minimize", losses, [0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    assert 0.0 <= x < 0.65


def test_one_huge_loss_does_not_hide_where_the_small_ones_are():
    losses = {x / 20: 1.0 + (x / 20 - 0.3) ** 2 for x in range(20)}
    assert proposal("minimize", {**losses, 1.0: 1e9}, []) == pytest.approx(0.3, abs=0.06)


RANGE = FloatRange(0.0, 1.0)


def rising(kind, failed=()):
    """A mirror of a stage that knows trials which are the better the higher x is, and how it proposes."""
    earlier = [EarlierTrial("coarse", None, {"x": x / 20}, x / 20, {"x": RANGE}) for x in range(16)]
    earlier = [*failed, *earlier]
    settings = StageConfig(trials=8, sampler="gp", seed=1)
    trials = [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(8)]
    if kind == "function":
        mirror = Mirror("fine", {"x": RANGE}, settings, trials, earlier=earlier)
        return mirror, lambda number: mirror.propose(number)["x"]
    asked = SuggestingMirror("fine", settings, trials, earlier=earlier)

    def suggest(number):
        asked.begin(number)
        return asked.suggest(number, "x", RANGE)

    return asked, suggest


@pytest.mark.parametrize("kind", ["function", "optuna"])
@pytest.mark.parametrize("ending", ["failed", "pruned", "failed elsewhere"])
def test_a_place_that_gave_no_value_is_not_proposed_again(kind, ending):
    """The best place would be the upper end, but the code raises there: a Gaussian process went there each time."""
    mirror, propose = rising(kind)
    proposed, rows = [], []
    for number in range(4):
        proposed.append(x := propose(number))
        rows.append(TrialRow(number, number, "FAIL" if x > 0.78 else "COMPLETE", x, {"x": x}, {"x": RANGE}))
        if ending == "failed elsewhere":
            mirror, propose = rising(kind)
            mirror.learn(rows)
        elif x <= 0.78:
            mirror.finish(number, x)
        elif ending == "failed":
            mirror.fail(number)
        else:
            mirror.finish(number, None)
    assert proposed[0] > 0.95
    assert sum(x > 0.78 for x in proposed) <= 2


@pytest.mark.parametrize("kind", ["function", "optuna"])
def test_nor_is_one_that_failed_in_a_stage_before(kind):
    failed = [EarlierTrial("coarse", None, {"x": x}, None, {"x": RANGE}, failed=True) for x in (0.8, 0.9, 0.95)]
    _, propose = rising(kind, failed)
    assert propose(0) < 0.8


def test_one_that_failed_before_it_asked_for_all_leaves_what_is_proposed_together():
    """Of what all complete trials have in common, a Gaussian process proposes all at once; the rest is drawn."""
    earlier = [EarlierTrial("coarse", None, {"x": 0.9}, None, {"x": RANGE}, failed=True)]
    known = [
        EarlierTrial("coarse", None, {"x": x / 20, "y": x / 20}, x / 20, {"x": RANGE, "y": RANGE}) for x in range(16)
    ]
    settings = StageConfig(trials=8, sampler="gp", seed=1)
    trials = [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(8)]
    mirror = SuggestingMirror("fine", settings, trials, earlier=[*earlier, *known])
    mirror.begin(0)
    assert mirror.propose_together(0)[0].keys() == {"x", "y"}
    mirror.suggest(0, "x", RANGE)
    mirror.fail(0)
    mirror.begin(1)
    assert mirror.propose_together(1)[0].keys() == {"x", "y"}


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
@pytest.mark.parametrize("failed", [True, False])
def test_one_that_exploded_before_it_asked_for_all_leaves_what_is_proposed_together(sampler, failed):
    """After a failure it ended the search with a KeyError of Optuna's, without one all was drawn from then on."""
    both = {"x": RANGE, "y": RANGE}
    earlier = [EarlierTrial("coarse", None, {"x": x / 20, "y": x / 20}, x / 20, both) for x in range(16)]
    settings = StageConfig(trials=8, sampler=sampler, seed=1)
    trials = [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(8)]
    mirror = SuggestingMirror("fine", settings, trials, earlier=earlier)
    for number in range(4):
        mirror.begin(number)
        assert mirror.propose_together(number)[0].keys() == {"x", "y"}
        mirror.suggest(number, "x", RANGE)
        if number == 0 and failed:
            mirror.fail(number)
        else:
            mirror.finish(number, None, exploded=True)


def test_an_explosion_is_told_with_all_that_was_proposed_for_it():
    mirror, _ = rising("optuna")
    mirror.begin(0)
    proposed = mirror.propose_together(0)[0]
    mirror.keep_proposed(0, proposed)
    mirror.finish(0, None, exploded=True)
    with mirror._as_told():
        told = {trial.number: trial for trial in mirror.study.get_trials()}
    assert (told[0].params, told[0].value) == (proposed, 0.0)  # the worst of the others


def test_a_call_of_another_trial_is_not_told_while_it_runs_nor_where_it_fails():
    """It is no place of its own: the first call has been told."""
    mirror, propose = rising("function")
    first = propose(0)
    mirror.finish(0, first)
    mirror.call_again(1, 0)
    mirror.adopt(1, {"x": first})
    mirror.finish(1, 0.3)
    mirror.call_again(2, 0)
    mirror.adopt(2, {"x": first})
    mirror.fail(2)
    mirror.learn([TrialRow(3, 3, "RUNNING", None, {"x": first}, {"x": RANGE}, attrs={"again": 0})])
    with mirror._as_told():
        assert [trial.number for trial in mirror.study.get_trials() if trial.number >= 0] == [0]


@pytest.mark.parametrize("kind", ["function", "optuna"])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(("ending", "told"), [(0.4, 0.7), (None, 0.0), ("fails", 1.0), ("fails twice", 0.0)])
def test_the_mean_of_its_calls_is_told_of_a_trial_once_they_have_ended(kind, elsewhere, ending, told):
    """That of a call which explodes, or of two that fail, is told as the worst."""
    mirror, _ = rising(kind)
    values = {0: 0.2, 1: 1.0}
    rows = [TrialRow(n, n, "COMPLETE", value, {"x": value}, {"x": RANGE}) for n, value in values.items()]
    mirror.learn(rows)
    for number in range(2, 4 if ending == "fails twice" else 3):
        failed = isinstance(ending, str)
        if elsewhere:
            state = "FAIL" if failed else "COMPLETE" if ending is not None else "PRUNED"
            attrs = {"again": 1, **({"reason": "exploded"} if ending is None else {})}
            value = None if failed else ending
            mirror.learn([TrialRow(number, number, state, value, {"x": 1.0}, {"x": RANGE}, attrs=attrs)])
            continue
        mirror.call_again(number, 1)
        mirror.adopt(number, {"x": 1.0})
        if failed:
            mirror.fail(number)
        else:
            mirror.finish(number, ending, exploded=ending is None)
    with mirror._as_told():
        seen = {trial.number: trial.value for trial in mirror.study.get_trials() if trial.number >= 0}
    assert seen == pytest.approx({0: 0.2, 1: told})
