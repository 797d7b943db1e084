"""Rungs, who is promoted, and what epochs cost: pure rules, and stages played with them in which workers die."""

import math
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.analysis.attributes import HALVED, SPENT
from hpsearch.analysis.decision import Limits
from hpsearch.analysis.records import StageRecord
from hpsearch.config import StageConfig, StudyConfig, load_settings
from hpsearch.config.schema.stage import FineConfig
from hpsearch.errors import ConfigError
from hpsearch.search.procedure import first_plan
from hpsearch.stages.halving import Halving, best_paused, best_stopped
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.time_budget import fit_to_time
from hpsearch.storage import QueuedTrial

PROMOTE = Halving("promote", epochs=9)
STOP = Halving("stop", epochs=9)


def trial(number, state="paused", values=(), **other):
    return QueuedTrial(100 + number, number, state, values=dict(enumerate(values, start=1)), **other)


@pytest.mark.parametrize(
    ("given_", "rungs"),
    [
        ({"epochs": 9}, (1, 3)),
        ({"epochs": 10}, (1, 3, 9)),
        ({"epochs": 20, "min_epochs": 2, "reduction": 4}, (2, 8)),
        ({"epochs": 5, "min_epochs": 5}, ()),
    ],
)
def test_rungs_are_below_the_epochs_of_a_whole_trial(given_, rungs):
    assert Halving("stop", **given_).rungs == rungs
    assert Halving("none", **given_).rungs == ()


def test_of_those_that_have_come_to_a_rung_a_third_is_promoted_best_first():
    trials = [trial(n, values=[value]) for n, value in enumerate([0.1, 0.5, 0.5, 0.9, 0.2, 0.3, 0.4])]
    assert PROMOTE.choose(trials, limit=9) == {3: 3, 1: 3}
    assert PROMOTE.choose(trials[:2], limit=9) == {}


def test_a_promoted_trial_counts_at_the_rung_that_it_left():
    left = trial(0, "held", [0.9, 0.9], until=3)
    assert PROMOTE.choose([left, *(trial(n, values=[0.1]) for n in (1, 2))], limit=9) == {}  # it was the third of 3
    assert PROMOTE.choose([left, *(trial(n, values=[0.1]) for n in range(1, 6))], limit=9) == {1: 3}


def test_higher_rungs_go_first_and_then_new_trials():
    high = [trial(n, values=[0.5, 0.5, 0.1 * n]) for n in range(3)]
    low = [trial(n, values=[0.1 * n]) for n in range(3, 9)]
    new = [trial(9, "new"), trial(10, "new")]
    assert list(PROMOTE.choose([*high, *low, *new], limit=5).items())[:2] == [(0, 9), (8, 3)]
    assert PROMOTE.choose([*high, *low, *new], limit=9)[9] == 1


def test_what_counts_is_the_best_epoch_up_to_the_rung():
    early, late = trial(0, values=[0.9, 0.2, 0.2]), trial(1, values=[0.1, 0.3, 0.3, 1.0])
    assert Halving("promote", 9, reduction=2).best_at(3, [early, late]) == [0]
    assert Halving("promote", 9, reduction=2, direction="minimize").best_at(3, [early, late]) == [1]


def test_a_program_that_reports_every_fifth_epoch_is_judged_by_the_first_one_after_a_rung():
    ended = [QueuedTrial(n, n, "ended", values={5: 0.1 * n, 10: 0.9}) for n in range(5)]
    best, worst = (QueuedTrial(n, n, "held", until=1, values={5: value}) for n, value in ((5, 0.7), (6, 0.05)))
    assert Halving("stop", 30).go_on([*ended, best, worst], [5, 6]) == {5: 9}


@given(
    curves=st.lists(st.dictionaries(st.integers(0, 12), st.floats(0, 1), min_size=1), min_size=1, max_size=12),
    form=st.sampled_from(["stop", "promote"]),
    direction=st.sampled_from(["maximize", "minimize"]),
)
def test_none_that_was_better_at_each_word_is_left_for_one_that_was_worse(curves, form, direction):
    """Whenever trials report: of two that report at the same epochs, the better one goes on before the worse one."""
    rules, sign = Halving(form, 13, direction=direction), 1 if direction == "maximize" else -1
    worse = [{epoch: value - sign for epoch, value in curve.items()} for curve in curves]
    trials = [QueuedTrial(n, n, "paused", values=values) for n, values in enumerate([*worse, *curves])]
    for rung in rules.rungs:
        best = rules.best_at(rung, trials)
        assert all(number + len(curves) in best for number in best if number < len(curves))


def test_a_value_that_is_no_number_is_the_worst():
    assert PROMOTE.best_at(1, [trial(0, values=[math.nan]), *(trial(n, values=[0.0]) for n in (1, 2))]) == [1]


def test_the_first_at_a_rung_goes_on_where_nobody_waits():
    assert STOP.go_on([trial(4, "held", [0.0])], [4]) == {4: 3}
    two = [trial(4, "held", [0.0]), trial(5, "held", [0.1])]
    assert STOP.go_on(two, [4, 5]) == {5: 3}


def test_the_end_of_a_budget_cuts_the_last_reservation():
    limited = Halving("none", 9, budget=12)
    one = trial(0, "held", [0.1], until=9)
    assert limited.choose([one, trial(1, "new"), trial(2, "new")], limit=9) == {1: 3}
    cut = trial(1, "held", [0.1, 0.1, 0.1], until=3)
    assert limited.go_on([one, cut], [1]) == {}
    ended = trial(0, "ended", [0.1] * 4)  # it exploded
    assert limited.go_on([ended, cut], [1]) == {1: 8}
    assert limited.why_ended(3) == SPENT
    assert PROMOTE.why_ended(3) == HALVED


def test_what_a_dead_worker_reserved_is_not_reserved_again():
    limited = Halving("promote", 9, budget=9)
    left = trial(0, "free", until=9)
    assert limited.choose([left, trial(1, "new")], limit=2) == {0: 9}


def test_trials_of_another_structure_wait():
    trials = [trial(0, "new", structure="a"), trial(1, "new", structure="b"), trial(2, "new", structure="a")]
    assert PROMOTE.choose(trials, limit=3) == {0: 1, 2: 1}


def test_no_structure_is_left_out_of_a_budget_as_another_one_is_promoted():
    waiting = [trial(n, values=[0.1 * n], structure="a") for n in range(3)]
    new = [trial(3, "new", structure="b"), trial(4, "new", structure="a"), trial(5, "new", structure="b")]
    limited = Halving("promote", epochs=9, budget=20)
    assert limited.choose([*waiting, *new], limit=4) == {2: 3}
    assert limited.choose(new, limit=4) == {3: 1, 5: 1}
    assert limited.choose([*waiting, *new[1:2]], limit=4) == {2: 3, 4: 1}
    assert PROMOTE.choose([*waiting, *new], limit=4) == {2: 3, 4: 1}  # without a budget, all of them begin


def test_the_best_that_waits_is_kept_if_it_is_better_than_all_that_are_complete():
    done = trial(0, "ended", [0.5] * 9, value=0.5, is_complete=True)
    assert best_paused(PROMOTE, [done, trial(1, values=[0.6]), trial(2, values=[0.7]), trial(3, values=[0.7])]) == 2
    assert best_paused(PROMOTE, [done, trial(1, values=[0.5])]) is None
    assert best_paused(PROMOTE, [trial(1, values=[math.nan])]) is None


def test_the_best_that_was_stopped_is_kept_where_none_is_complete():
    trials = [trial(n, "ended", values=[value]) for n, value in enumerate([0.9, 0.5, 0.7, 0.7, 0.8])]
    reasons = ["exploded", HALVED, SPENT, HALVED, "failed"]
    attrs = {number: {"reason": reason} for number, reason in enumerate(reasons)}
    assert best_stopped(STOP, trials, attrs) == 2
    assert best_stopped(replace(STOP, direction="minimize"), trials, attrs) == 1
    worse, better = (trial(5, "ended", [value], value=value, is_complete=True) for value in (0.1, 0.99))
    assert best_stopped(STOP, [*trials, worse], attrs) == 2, "it was stopped after the explosions, with less to beat"
    assert best_stopped(STOP, [*trials, better], attrs) is None
    assert best_stopped(STOP, trials[:1], attrs) is None
    returns_less = trial(5, "ended", [0.99, 0.2], value=0.2, is_complete=True)
    assert best_stopped(STOP, [*trials, returns_less], attrs) is None, "the others were stopped by what it reported"


@pytest.mark.parametrize(
    ("form", "num_trials", "epochs"),
    [
        ("stop", 1, 9),
        ("promote", 1, 1),
        ("stop", 5, 5 + 2 + 6),
        ("promote", 5, 5 + 2),
        ("stop", 9, 9 + 3 * 2 + 6),
        ("promote", 9, 9 + 3 * 2 + 6),
        ("promote", 30, 30 + 10 * 2 + 3 * 6),
    ],
)
def test_what_a_stage_is_expected_to_train(form, num_trials, epochs):
    assert Halving(form, 9).expected_epochs(num_trials) == epochs
    assert Halving(form, 9, budget=50).expected_epochs(num_trials) == 50


@given(num_trials=st.integers(1, 40), reduction=st.integers(2, 5), min_epochs=st.integers(1, 4))
def test_of_trials_whose_order_does_not_change_a_promoting_stage_trains_what_was_expected(
    num_trials, reduction, min_epochs
):
    rules = Halving("promote", 13, min_epochs, reduction)
    stage = Played(rules, num_trials, lambda number, _epoch: -number)  # whoever comes first is the best
    while numbers := stage.take(1):
        while numbers:
            numbers = [number for number in numbers if stage.train(number, "")]
    assert stage.recorded == rules.expected_epochs(num_trials)


@given(budget=st.integers(1, 300), reduction=st.integers(2, 5), min_epochs=st.integers(1, 4))
def test_as_many_trials_are_expected_as_a_budget_suffices_for(budget, reduction, min_epochs):
    free = Halving("promote", 13, min_epochs, reduction)
    num = replace(free, budget=budget).expected_trials(budget)
    assert 1 <= num <= budget
    assert free.expected_epochs(num - 1) <= budget
    if num < budget:
        whole = reduction ** len(free.rungs)  # of such a number the shares at all rungs are whole
        assert free.expected_epochs(math.ceil(num / whole) * whole) >= budget
    assert free.expected_trials(budget) == budget
    assert Halving("none", 13, budget=budget).expected_trials(budget) == math.ceil(budget / 13)


@dataclass
class Played:
    """A stage that is played with the rules alone: trials as `storage.choosing` would show them."""

    rules: Halving
    num_trials: int
    value: object
    state: dict = field(default_factory=dict)
    until: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    checkpoints: dict = field(default_factory=dict)
    trained: int = 0

    def standing(self):
        return [
            QueuedTrial(n, n, self.state.get(n, "new"), None, self.until.get(n), dict(self.values.get(n, {})))
            for n in range(self.num_trials)
        ]

    def take(self, limit):
        chosen = self.rules.choose(self.standing(), limit)
        for number, until in chosen.items():
            if self.state.get(number) != "paused":
                self.values[number] = {}
            done = len(self.values[number])
            assert done == 0 or self.rules.form == "promote"
            self.values[number] = {e: self.value(number, e) for e in range(1, self.checkpoints.get(number, 0) + 1)}
            self.state[number], self.until[number] = "held", until
        return list(chosen)

    def train(self, number, epoch_fate):
        """One epoch; whether the trial is still in hand."""
        epoch = len(self.values[number]) + 1
        assert epoch <= self.until[number]
        self.values[number][epoch] = self.value(number, epoch)
        if epoch_fate == "explodes" or epoch == self.rules.epochs:
            self.state[number] = "ended"
        elif epoch == self.until[number]:
            self.checkpoints[number] = epoch
            if self.rules.form == "promote":
                self.state[number] = "paused"
            else:
                going = self.rules.go_on(self.standing(), [number])
                self.until |= going
                self.state[number] = "held" if number in going else "ended"
        elif epoch_fate == "checkpoint":
            self.checkpoints[number] = epoch
        return self.state[number] == "held"

    def die(self, numbers):
        for number in numbers:
            self.state[number], self.values[number] = "free", {}

    @property
    def recorded(self):
        return sum(map(len, self.values.values()))


@settings(deadline=None)
@given(
    form=st.sampled_from(["none", "stop", "promote"]),
    budget=st.integers(1, 70),
    epochs=st.integers(2, 12),
    min_epochs=st.integers(1, 3),
    reduction=st.integers(2, 4),
    width=st.integers(1, 6),
    num_workers=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_a_budget_is_spent_exactly_whoever_dies(form, budget, epochs, min_epochs, reduction, width, num_workers, seed):
    chance, rules = random.Random(seed), Halving(form, epochs, min_epochs, reduction, budget)
    stage = Played(rules, budget, lambda number, epoch: ((number * 7919 + epoch * 31) % 101) / 101)
    hands = [[] for _ in range(num_workers)]
    for _ in range(100_000):
        worker = chance.randrange(num_workers)
        if not hands[worker]:
            hands[worker] = stage.take(width)
            if not hands[worker] and not any(hands):
                break
        elif chance.random() < 0.05:
            stage.die(hands[worker])
            hands[worker] = []
        else:
            fates = {n: chance.choices(["", "explodes", "checkpoint"], [8, 1, 4])[0] for n in hands[worker]}
            hands[worker] = [number for number in hands[worker] if stage.train(number, fates[number])]
        reserved = sum(trial.reserved for trial in stage.standing())
        assert stage.recorded <= reserved <= budget
    assert stage.recorded == budget
    assert not rules.choose(stage.standing(), 1)


@settings(deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    width=st.integers(1, 8),
    form=st.sampled_from(["stop", "promote"]),
)
def test_without_a_budget_all_begin_and_a_third_goes_on(values, width, form):
    rules = Halving(form, epochs=9)
    stage = Played(rules, len(values), lambda number, _epoch: values[number])
    while numbers := stage.take(width):
        while numbers:
            numbers = [number for number in numbers if stage.train(number, "")]
    num_at = [sum(len(curve) >= epoch for curve in stage.values.values()) for epoch in (1, 3, 9)]
    assert num_at[0] == len(values)
    if form == "promote":
        best = sorted(range(len(values)), key=lambda n: (-values[n], n))[: len(values) // 3]
        assert all(len(stage.values[number]) >= 3 for number in best)  # those that are among the best at the end
    else:
        assert num_at[1] >= 1
    assert num_at[2] <= num_at[1] <= num_at[0]


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"halving": "stop", "pruner": "median"}, "halving = 'stop' and pruner = 'median'"),
        ({"halving": "promote", "epochs": 3, "min_epochs": 3}, "min_epochs = 3"),
        ({"epochs_budget": 30, "sampler": "grid"}, "epochs_budget = 30"),
        ({"epochs_budget": 30, "repeat_best": 2}, "repeat_best = 2"),
    ],
)
@pytest.mark.parametrize(("stage", "table"), [(StageConfig, "coarse"), (FineConfig, "fine")])
def test_what_does_not_go_together_is_refused_by_name(given_, words, stage, table):
    with pytest.raises(Exception, match=rf"{table}\.{words}") as refused:
        stage(**given_)
    assert "Allowed: " in str(refused.value)


@pytest.mark.parametrize(("epochs", "fewer"), [(3, True), (1, False)])
def test_no_rung_below_the_first_epoch_is_advised(epochs, fewer):
    with pytest.raises(Exception, match="leaves no rung") as refused:
        StageConfig(halving="stop", epochs=epochs, min_epochs=epochs)
    assert ("min_epochs below" in str(refused.value)) == fewer


def test_a_budget_has_trials_as_many_as_may_fit():
    assert StageConfig(epochs_budget=30, trials=7).trials == 30
    assert not StageConfig(trials=7).has_rungs


def test_a_stage_made_to_fit_a_time_keeps_a_rung():
    plan = StagePlan("coarse", "coarse", StudyConfig(coarse={"epochs": 20, "min_epochs": 4, "halving": "stop"}))
    fitted = fit_to_time(plan, estimate=100.0, seconds=2.0)
    assert fitted.settings.epochs == 2
    assert StageConfig(**fitted.settings.model_dump()).min_epochs == 1


def test_an_exact_budget_is_not_made_to_fit_a_time():
    plan = StagePlan("coarse", "coarse", StudyConfig(coarse={"epochs_budget": 30}))
    with pytest.raises(ConfigError, match=r"coarse\.epochs_budget = 30") as refused:
        fit_to_time(plan, estimate=100.0, seconds=2.0)
    assert len(str(refused.value).splitlines()) == 2


def test_a_procedure_with_a_time_refuses_the_budget_of_any_stage_before_the_first():
    settings = load_settings(flags={"fine.epochs_budget": 30})
    assert first_plan(settings, None, Limits()).kind == "coarse"
    with pytest.raises(ConfigError, match=r"fine\.epochs_budget = 30 is exact"):
        first_plan(settings, None, Limits(seconds=60))


def test_a_stage_says_how_much_it_trains():
    plan = StagePlan("coarse", "coarse", StudyConfig(coarse={"epochs": 9, "trials": 30, "halving": "stop"}))
    assert plan.num_whole_trials == 8  # 68 epochs
    assert plan.as_dict()["epochs_expected"] == 68
    whole = StagePlan("coarse", "coarse", StudyConfig(coarse={"epochs": 9, "trials": 30}))
    assert whole.num_whole_trials == 30
    assert whole.as_dict()["epochs_expected"] == 270


def test_a_kept_stage_has_the_rules_that_it_was_made_with():
    record = StageRecord(kind="fine", config={"fine": {"epochs": 20, "halving": "stop", "reduction": 4}})
    assert Halving.kept(record, "minimize") == Halving("stop", 20, 1, 4, None, "minimize")
    assert Halving.kept(StageRecord(kind="fine", config={"fine": {"epochs": 20}}), "minimize") is None
