"""Values for trials that say their ranges as they run."""

import math

import optuna
import pytest

from hpsearch.config import Choice, FloatRange, IntRange, StageConfig
from hpsearch.errors import ConfigError
from hpsearch.space import draw_one, draw_random
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.suggestions import SuggestingMirror, refuse_other_calls, refuse_samplers_in_advance
from hpsearch.storage import TrialRow

RATE = FloatRange(1e-4, 1.0, log=True)
DEPTH = IntRange(1, 9)


def waiting(number):
    return [TrialRow(trial_id=i, number=i, state="WAITING") for i in range(number)]


def test_random_values_are_those_of_a_space_with_the_same_ranges():
    space = {"rate": RATE, "depth": DEPTH, "kind": Choice(("a", "b"))}
    for number, params in enumerate(draw_random(space, 20, seed=3)):
        assert params == {name: draw_one(name, space[name], number, 3) for name in reversed(space)}


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "cmaes"])
def test_a_sampler_proposes_call_by_call_and_learns(sampler):
    mirror = SuggestingMirror("s", StageConfig(trials=40, sampler=sampler, seed=1), waiting(40))
    rates = []
    for number in range(40):
        mirror.begin(number)
        kind = mirror.suggest(number, "kind", Choice(("a", "b")))
        rate = mirror.suggest(number, "rate", RATE)
        assert mirror.suggest(number, "rate", RATE) == rate
        if kind == "a":
            mirror.suggest(number, "depth", DEPTH)
        rates.append(rate)
        mirror.report(number, 0, 1 - rate)
        mirror.finish(number, 1 - abs(rate - 0.01))
    early, late = sorted(abs(rate - 0.01) for rate in rates[:10]), sorted(abs(rate - 0.01) for rate in rates[25:])
    assert late[len(late) // 2] < early[len(early) // 2]


def test_what_other_workers_and_the_past_did_is_learnt_with_the_ranges_that_it_had():
    past = [
        TrialRow(n, n, "COMPLETE", float(n), {"rate": 0.1, "width": n}, {"rate": RATE, "width": IntRange(0, n + 1)})
        for n in range(12)
    ]
    mirror = SuggestingMirror("s", StageConfig(trials=20, sampler="tpe"), [*past, *waiting(20)[12:]])
    trials = mirror.study.get_trials()
    assert [t.params for t in trials[:12]] == [row.params for row in past]
    assert trials[3].distributions["width"] == optuna.distributions.IntDistribution(0, 4)
    assert mirror.first_open == 12
    mirror.begin(12)
    assert 0 <= mirror.suggest(12, "width", IntRange(0, 3)) <= 3


def known(count, best):
    """Trials of an earlier stage, some of which have a parameter more; they are the better the nearer the rate is."""
    found = []
    for place in range(count):
        kind, rate = "ab"[place % 2], 10 ** (-4 + 4 * place / count)
        params = {"kind": kind, "rate": rate} | ({"depth": 1 + place % 9} if kind == "a" else {})
        ranges = {"kind": Choice(("a", "b")), "rate": RATE} | ({"depth": DEPTH} if kind == "a" else {})
        found.append(EarlierTrial("coarse", None, params, -abs(math.log10(rate / best)), ranges))
    return found


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "cmaes"])
def test_the_first_calls_of_a_conditional_space_get_what_did_well_in_earlier_stages(sampler):
    def distance(earlier):
        settings = StageConfig(trials=8, sampler=sampler, seed=3)
        mirror = SuggestingMirror("s", settings, waiting(8), earlier=earlier)
        away = []
        for number in range(8):
            mirror.begin(number)
            kind = mirror.suggest(number, "kind", Choice(("a", "b")))
            rate = mirror.suggest(number, "rate", RATE)
            if kind == "a":
                mirror.suggest(number, "depth", DEPTH)
            away.append(abs(math.log10(rate / 4e-4)))
            mirror.finish(number, -away[-1])
        return sum(away)

    assert distance(known(40, 4e-4)) < 0.7 * distance(())


def test_earlier_trials_of_code_that_has_changed_its_choices_are_forgotten():
    """Optuna takes no trials with other choices."""
    for sampler in ("tpe", "gp"):
        settings = StageConfig(trials=3, sampler=sampler, seed=3)
        mirror = SuggestingMirror("s", settings, waiting(3), earlier=known(30, 2e-3))
        for number in range(3):
            mirror.begin(number)
            assert 1e-4 <= mirror.suggest(number, "rate", RATE) <= 1
            assert mirror.suggest(number, "kind", Choice(("a", "b", "c"))) in ("a", "b", "c")
            mirror.finish(number, 0.5)


def test_a_value_that_is_known_is_what_a_call_gets():
    mirror = SuggestingMirror("s", StageConfig(trials=2, sampler="tpe"), waiting(2))
    mirror.begin(0)
    mirror.put(0, "rate", RATE, 0.25)
    assert mirror.study.get_trials()[0].params == {"rate": 0.25}


@pytest.mark.parametrize(
    ("first", "called", "said"),
    [
        (RATE, DEPTH, "different distribution kind"),
        (RATE, FloatRange(1e-4, 1.0), "different log configuration"),
        (Choice(("a",)), Choice(("a", "b")), "dynamic value space"),
        (DEPTH, IntRange(2, 99), None),
        (Choice(("a", (1, 2))), Choice(("a", (1, 2))), None),
    ],
)
def test_a_call_may_change_as_optuna_lets_it(first, called, said):
    if said is None:
        refuse_other_calls("x", first, called)
        return
    with pytest.raises(ConfigError, match=f"of 'x' asks for .*{said}.*\nAllowed: other ends of numbers"):
        refuse_other_calls("x", first, called)


@pytest.mark.parametrize("sampler", ["qmc", "grid"])
def test_samplers_that_need_all_ranges_first_are_refused(sampler):
    with pytest.raises(ConfigError, match=r"needs all ranges before the first trial.*\nAllowed: random, tpe, gp"):
        refuse_samplers_in_advance("coarse.sampler", sampler, "mine:objective")
    refuse_samplers_in_advance("coarse.sampler", "tpe", "mine:objective")
