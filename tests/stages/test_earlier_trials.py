"""What a fine stage knows of the stages before it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis import attributes
from hpsearch.analysis.called_again import TriedAgain
from hpsearch.analysis.study_trials import StudyTrials, observe
from hpsearch.config import Choice, FloatRange, IntRange, StageConfig
from hpsearch.config.metric import ACCURACY, known_metric
from hpsearch.search.stage_run import run_stage
from hpsearch.space import Observation
from hpsearch.stages.earlier_trials import (
    EarlierTrial,
    as_numbers,
    bounded,
    called_trials_inside,
    comparable,
    counted,
    read_earlier_trials,
    trials_inside,
    without_tried,
)
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.learned_shift import MIN_PAIRS, LearnedShift, best_until
from hpsearch.stages.opening import open_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import StudyRow, TrialRow, find_study, write_attrs

SPACE = {"lr": FloatRange(1e-4, 1e-1, log=True), "train.batch_size": IntRange(8, 64)}
LOSS = known_metric("loss", "minimize")


def waiting(number):
    return [TrialRow(trial_id=i, number=i, state="WAITING") for i in range(number)]


def stage(*observations, epochs=3):
    attrs = {attributes.STAGE: "coarse", attributes.CONFIG: {"coarse": {"epochs": epochs}}}
    seen = [Observation(i, *observation) for i, observation in enumerate(observations)]
    return StudyTrials(StudyRow(1, "coarse", ("MAXIMIZE",), attrs), [], "maximize", {}, seen)


class TestWhichTrials:
    def test_those_inside_the_ranges_that_ended_or_exploded(self):
        inside = {"lr": 1e-2, "train.batch_size": 16}
        found = trials_inside(
            stage(
                (inside, 0.8, "complete"),
                (inside, None, "exploded"),
                (inside, 0.3, "pruned"),
                ({**inside, "lr": 0.2}, 0.9, "complete"),
                ({"lr": 1e-2}, 0.9, "complete"),
                ({**inside, "train.epochs_unknown": 3}, 0.7, "complete"),
            ),
            SPACE,
        )
        assert found == [
            EarlierTrial("coarse", 3, inside, 0.8),
            EarlierTrial("coarse", 3, inside, None),
            EarlierTrial("coarse", 3, inside, 0.7),
        ]
        assert counted(found) == {"coarse": 3}

    def test_of_a_stage_with_rungs_those_that_were_halved_with_the_epochs_they_had(self):
        params = {"lr": 1e-2, "train.batch_size": 16}

        def row(number, state, reason, values):
            attrs = {attributes.REASON: reason} if reason else {}
            kept = {"params": params, "attrs": attrs, "intermediate": dict(enumerate(values, 1))}
            return TrialRow(number, number, state, max(values) if state == "COMPLETE" else None, **kept)

        rows = [
            row(0, "COMPLETE", None, [0.2, 0.5, 0.8]),
            row(1, "PRUNED", attributes.HALVED, [0.4]),
            row(2, "PRUNED", attributes.SPENT, [0.6, 0.5]),
            row(3, "PRUNED", "median", [0.7, 0.1]),
        ]
        seen = [observe(each, "maximize") for each in rows]
        found = trials_inside(replace(stage(), trials=rows, observations=seen), SPACE)
        assert [(each.epochs, each.value) for each in found] == [(3, 0.8), (1, 0.4), (2, 0.6)]

    def test_a_halved_trial_whose_metric_gave_no_number_says_nothing(self):
        params = {"lr": 1e-2, "train.batch_size": 16}
        halved = {"params": params, "attrs": {attributes.REASON: attributes.HALVED}}
        rows = [TrialRow(n, n, "PRUNED", None, intermediate={1: v}, **halved) for n, v in enumerate([math.nan, 0.4])]
        seen = replace(stage(), trials=rows, observations=[observe(trial, "maximize") for trial in rows])
        ranges = {name: SPACE[name] for name in params}
        found = trials_inside(seen, SPACE)
        assert found == [EarlierTrial("coarse", 1, params, 0.4)]
        assert called_trials_inside(replace(seen, ranges=ranges), {}, ()) == [replace(found[0], ranges=ranges)]
        mirror = Mirror("fine", SPACE, StageConfig(trials=2, sampler="tpe"), waiting(2), earlier=found)
        assert mirror.propose(0).keys() == params.keys()

    def test_a_short_name_is_the_same_hyperparameter(self):
        (trial,) = trials_inside(stage(({"batch_size": 16, "lr": 1e-2}, 0.8, "complete")), SPACE)
        assert trial.params == {"lr": 1e-2, "train.batch_size": 16}

    def test_one_of_a_conditional_range_may_be_missing(self):
        momentum = FloatRange(0.5, 0.99, when=(("train.optimizer", ("momentum",)),))
        space = {"train.optimizer": Choice(("sgd", "momentum")), "train.momentum": momentum}
        found = trials_inside(
            stage(
                ({"train.optimizer": "sgd"}, 0.8, "complete"),
                ({"train.optimizer": "momentum", "train.momentum": 0.3}, 0.8, "complete"),
                ({"train.optimizer": "adam"}, 0.8, "complete"),
            ),
            space,
        )
        assert [trial.params for trial in found] == [{"train.optimizer": "sgd"}]

    def test_trials_that_are_not_told_a_number_of_epochs_have_as_many_as_later_ones(self):
        told = stage(({"lr": 1e-2}, 0.8, "complete"), epochs=3)
        told.study.attrs[attributes.TAKES] = ["seed"]
        (trial,) = trials_inside(told, {"lr": SPACE["lr"]})
        assert trial.epochs is None
        shift = LearnedShift(ACCURACY)
        for _ in range(MIN_PAIRS):
            shift.learn({0: 0.1, 5: 0.9}, 0.9)
        assert shift.of(trial.epochs) == 0.0

    def test_of_an_optuna_objective_all_that_a_trial_asked_for_counts(self):
        seen = stage(
            ({"kind": "sgd", "rate": 1e-2, "momentum": 0.5, "width": 32}, 0.8, "complete"),
            ({"kind": "adam", "rate": 1e-2, "width": 64}, 0.9, "complete"),
            ({"kind": "adam", "rate": 0.5, "width": 64}, 0.9, "complete"),
            ({"kind": "sgd", "rate": 1e-2, "momentum": 0.1, "width": 32}, 0.8, "complete"),
            ({"kind": "adam", "rate": 2e-2, "width": 16}, None, "exploded"),
            ({}, None, "exploded"),
            ({"kind": "adam", "rate": 1e-2, "width": 64}, 0.9, "pruned"),
        )
        called = {
            "kind": Choice(("sgd", "adam")),
            "rate": FloatRange(1e-4, 1.0, log=True),
            "momentum": FloatRange(0.0, 0.9),
            "width": IntRange(16, 128, step=16),
        }
        seen = replace(seen, ranges=called)
        space = {"kind": Choice(("adam",)), "rate": FloatRange(1e-3, 0.1, log=True), "momentum": FloatRange(0.4, 0.6)}
        found = called_trials_inside(seen, {**space, "width": IntRange(20, 100)}, (*space, "width"))
        assert [(trial.params["kind"], trial.value) for trial in found] == [("sgd", 0.8), ("adam", 0.9)]
        assert "momentum" not in found[1].params
        assert found[0].ranges == {  # those from which this stage draws the same calls
            "kind": called["kind"],
            "rate": space["rate"],
            "momentum": space["momentum"],
            "width": IntRange(32, 96, step=16),
        }

    @pytest.mark.parametrize("form", ["function", "optuna"])
    def test_one_that_was_called_again_by_the_mean_of_its_calls(self, form):
        places = [0.1, 0.2, 0.3, 0.1, 0.1, 0.3]
        values, of = [0.9, 0.8, 0.85, 0.6, 0.3, None], [None, None, None, 0, 0, 2]
        rows = [
            TrialRow(
                number,
                number,
                "COMPLETE" if value is not None else "PRUNED",
                value,
                {"x": place},
                attrs={
                    **({} if again is None else {attributes.AGAIN: again}),
                    **({} if value is not None else {attributes.REASON: attributes.EXPLODED}),
                },
            )
            for number, (place, value, again) in enumerate(zip(places, values, of, strict=True))
        ]
        seen = [observe(trial, "maximize") for trial in rows[:3]]
        space = {"x": FloatRange(0.0, 1.0)}
        evidence = replace(stage(), trials=rows, observations=seen, ranges=space)
        inside = trials_inside(evidence, space) if form == "function" else called_trials_inside(evidence, {}, ())
        told = {trial.params["x"]: trial.value for trial in inside}
        assert told == {0.1: pytest.approx(0.6), 0.2: 0.8, 0.3: None}

    @pytest.mark.parametrize("form", ["function", "optuna"])
    def test_of_one_that_failed_that_it_was_tried(self, form):
        rows = [
            TrialRow(0, 0, "COMPLETE", 0.9, {"x": 0.1}),
            TrialRow(1, 1, "FAIL", None, {"x": 0.2}),
            TrialRow(2, 2, "PRUNED", None, {"x": 0.3}),
            TrialRow(3, 3, "PRUNED", None, {"x": 0.4}, intermediate={1: 0.5}),  # a pruner's
            TrialRow(4, 4, "RUNNING", None, {"x": 0.5}),
        ]
        seen = [observe(trial, "maximize") for trial in rows]
        space = {"x": FloatRange(0.0, 1.0)}
        evidence = replace(stage(), trials=rows, observations=seen, ranges=space)
        inside = trials_inside(evidence, space) if form == "function" else called_trials_inside(evidence, {}, ())
        assert [(trial.params["x"], trial.failed) for trial in inside] == [(0.1, False), (0.2, True), (0.3, True)]
        assert counted(inside) == {"coarse": 1}

    def test_what_a_later_stage_has_called_is_told_by_that_one_alone(self):
        lucky = EarlierTrial("coarse", 3, {"lr": 1e-2}, 0.99)
        held = EarlierTrial("fine", 3, {"lr": 1e-2}, 0.8)
        others = [replace(lucky, study="elsewhere"), replace(lucky, params={"lr": 2e-2})]
        tried = [TriedAgain("coarse", {"lr": 1e-2, "reg": 0.1}, (0.7,))]
        assert without_tried([lucky, *others, held], tried) == [*others, held]
        assert without_tried([lucky, held], [replace(tried[0], values=())]) == [lucky, held]

    @given(st.integers(0, 700))
    def test_their_numbers_rise_between_minus_one_and_zero(self, count):
        numbers = as_numbers([EarlierTrial("coarse", 3, {}, 0.5)] * count)
        assert all(-1 < number < 0 for number in numbers)
        assert numbers == sorted(set(numbers))


class TestOfOtherEpochs:
    """Of an optimizer that learns fast, few epochs say too much; of a rate, they say enough."""

    KNOWN = (EarlierTrial("coarse", 3, {}, 0.5), EarlierTrial("fine", 9, {}, 0.7))

    @pytest.mark.parametrize(
        ("values", "epochs", "told"),
        [
            ((), 9, KNOWN),
            (("sgd",), 9, KNOWN),
            (("sgd", "adam"), 9, KNOWN[1:]),
            (("sgd", "adam"), 20, ()),
            (("sgd", "adam"), None, KNOWN),  # an objective without epochs
        ],
    )
    def test_they_are_told_where_no_choice_is_searched(self, values, epochs, told):
        space = {**SPACE, **({"train.optimizer": Choice(values)} if values else {})}
        assert comparable(self.KNOWN, space, epochs) == list(told)

    def test_of_a_stage_with_rungs_all_are_told_or_none(self):
        halved = [EarlierTrial("coarse", 1, {}, 0.2), EarlierTrial("coarse", 9, {}, 0.8)]
        assert comparable(halved, SPACE, 9) == halved
        assert comparable(halved, {**SPACE, "train.optimizer": Choice(("sgd", "adam"))}, 9) == []

    def test_a_gaussian_process_is_told_all_of_a_stage_with_rungs_whose_best_were_trained_as_long(self):
        space = {**SPACE, "train.optimizer": Choice(("sgd", "adam"))}
        halved = [EarlierTrial("coarse", 1, {}, 0.2), EarlierTrial("coarse", 9, {}, 0.8)]
        assert comparable(halved, space, 9, "gp") == comparable(halved, space, 5, "gp") == halved
        assert comparable(halved, space, 20, "gp") == comparable(halved, space, 9, "tpe") == []
        few = [EarlierTrial("coarse", 3, {}, 0.2), EarlierTrial("coarse", 3, {}, 0.8)]
        assert comparable(few, space, 9, "gp") == []
        exploded = EarlierTrial("coarse", 9, {}, None)  # of a stage of 9 epochs, none of which came to the last
        assert comparable([*few, EarlierTrial("coarse", 1, {}, 0.1), exploded], space, 9, "gp") == []
        assert comparable([exploded], space, 20) == [exploded]

    def test_a_stage_of_as_many_epochs_knows_what_one_of_more_does_not(self, db, tiny):
        space = ("lr=log(1e-3,1e-1)", "reg=none", "optimizer=choice(sgd,adam)")
        settings = tiny(coarse__trials=8, coarse__epochs=1, space=space)
        seen = run_stage(db, plan_coarse(settings), settings.run, checks=False)
        read = {}
        for epochs in (1, 2):
            given = tiny(fine__epochs=epochs, space=("optimizer=choice(sgd,adam)",))
            given = replace(given, ranges_given=frozenset({"train.optimizer"}))
            plan = plan_fine(seen, given, f"fine-{epochs}")
            study = open_stage(db, plan, None)
            write_attrs(db, study, {attributes.DATASET: seen.study.attrs[attributes.DATASET]})
            read[epochs] = len(read_earlier_trials(db, find_study(db, plan.name), plan))
        assert read[1] > 0 == read[2]

    def test_of_a_stage_with_rungs_a_gaussian_process_reads_all_where_a_choice_is_searched(self, db, tiny):
        space = ("lr=log(1e-3,1e-1)", "reg=none", "optimizer=choice(sgd,adam)")
        settings = tiny(coarse__trials=8, coarse__epochs=4, coarse__halving="stop", space=space)
        seen = run_stage(db, plan_coarse(settings), settings.run, checks=False)
        read = {}
        for sampler in ("gp", "tpe"):
            given = tiny(fine__epochs=4, fine__sampler=sampler, space=("optimizer=choice(sgd,adam)",))
            given = replace(given, ranges_given=frozenset({"train.optimizer"}))
            plan = plan_fine(seen, given, sampler)
            study = open_stage(db, plan, None)
            write_attrs(db, study, {attributes.DATASET: seen.study.attrs[attributes.DATASET]})
            read[sampler] = {trial.epochs for trial in read_earlier_trials(db, find_study(db, plan.name), plan)}
        assert len(read["gp"]) > 1
        assert read["tpe"] == set()


class TestHowMany:
    def test_the_best_and_the_newest_in_their_order(self):
        known = [EarlierTrial("coarse", 3, {}, 1.0 - i / 100) for i in range(100)]
        known[50] = EarlierTrial("coarse", 3, {}, None)
        kept = bounded(known, "maximize", 40)
        assert kept == [*known[:25], *known[-15:]]
        assert bounded(known, "minimize", 40) == known[-40:]
        assert bounded(known, "maximize", 100) == known


class TestLearnedShift:
    def test_the_median_of_what_further_epochs_gave(self):
        shift = LearnedShift(ACCURACY)
        for gain in (0.01, 0.02, 0.3):
            assert shift.of(2) == 0.0
            shift.learn({1: 0.3, 2: 0.5, 3: 0.4, 4: 0.5 + gain}, 0.5 + gain)
        assert shift.of(2) == pytest.approx(0.02)

    def test_where_less_is_better(self):
        shift = LearnedShift(LOSS)
        for _ in range(3):
            shift.learn({1: 2.0, 2: 2.5, 3: 0.5}, 0.5)
        assert (shift.of(1), shift.of(2)) == (-1.5, -1.5)
        assert best_until(2, {1: 2.0, 2: 2.5}, LOSS) == 2.0

    def test_a_trial_that_ended_no_later_says_nothing(self):
        shift = LearnedShift(ACCURACY)
        for _ in range(5):
            shift.learn({1: 0.2, 5: 0.4}, 0.4)
            shift.learn({}, 0.4)
        assert shift.of(5) == 0.0


def earlier(best_lr, *, exploding=()):
    """Trials of a bowl around a rate, and some that exploded."""
    rates = [10 ** (-4 + 3 * i / 29) for i in range(30)]
    return [
        EarlierTrial(
            "coarse",
            3,
            {"lr": lr, "train.reg": 10 ** (-5 + i % 6)},
            None if lr in exploding else 0.9 - abs(math.log10(lr / best_lr)),
        )
        for i, lr in enumerate((*rates, *exploding))
    ]


class TestSamplers:
    SPACE = {"lr": SPACE["lr"], "train.reg": FloatRange(1e-5, 1.0, log=True)}  # noqa: RUF012

    def proposed(self, sampler, known, count=8, value=lambda _: 0.5):
        settings = StageConfig(trials=count, sampler=sampler, seed=5)
        mirror = Mirror("s", self.SPACE, settings, waiting(count), earlier=known)
        rates = []
        for number in range(count):
            rates.append(mirror.propose(number)["lr"])
            mirror.report(number, 3, value(rates[-1]))
            mirror.finish(number, value(rates[-1]))
        return rates

    @pytest.mark.slow
    @pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
    def test_the_first_proposals_lie_where_earlier_trials_did_well(self, sampler):
        """Without them, they are a draw from three decades."""

        def bowl(lr):
            return 0.9 - abs(math.log10(lr / 3e-2))

        def distance(rates):
            return sum(abs(math.log10(lr / 3e-2)) for lr in rates) / len(rates)

        knowing = distance(self.proposed(sampler, earlier(3e-2), value=bowl))
        forgetting = distance(self.proposed(sampler, (), value=bowl))
        assert knowing < 0.6 * forgetting

    @pytest.mark.parametrize("sampler", ["tpe", "gp"])
    def test_they_keep_away_from_where_earlier_trials_exploded(self, sampler):
        exploding = [10 ** (-2 + i / 10) for i in range(10)]
        known = earlier(9e-3, exploding=exploding)
        known = [t for t in known if t.value is None or t.params["lr"] < 1e-2]
        rates = self.proposed(sampler, known, value=lambda lr: 0.9 - abs(math.log10(lr / 9e-3)))
        assert sum(lr > 1.3e-2 for lr in rates) <= 3

    @pytest.mark.parametrize("sampler", ["tpe", "gp"])
    def test_what_was_drawn_before_is_not_drawn_again(self, sampler):
        """Both draw until they know ten trials; the stages have one seed."""
        first = self.proposed(sampler, (), count=4)
        known = [EarlierTrial("coarse", 3, {"lr": lr, "train.reg": 0.1}, 0.5) for lr in first]
        assert not set(first) & set(self.proposed(sampler, known, count=4))

    def test_values_of_fewer_epochs_are_moved_before_they_are_told(self):
        settings = StageConfig(trials=10, sampler="tpe")
        mirror = Mirror("s", self.SPACE, settings, waiting(10), earlier=earlier(3e-3))
        told = [trial.value for trial in mirror._told_earlier.trials()]
        for number in range(3):
            mirror.propose(number)
            for epoch, value in enumerate((0.4, 0.5, 0.55, 0.7, 0.8), start=1):
                mirror.report(number, epoch, value)
            mirror.finish(number, 0.8)
        moved = [trial.value for trial in mirror._told_earlier.trials()]
        assert [b - a for a, b in zip(told, moved, strict=True)] == pytest.approx([0.25] * 30)

    def test_pruners_and_the_stage_itself_see_none_of_them(self):
        settings = StageConfig(trials=10, sampler="tpe", pruner="median")
        mirror = Mirror("s", self.SPACE, settings, waiting(10), earlier=earlier(3e-3))
        mirror.propose(0)
        assert len(mirror.study.trials) == 10
        assert mirror.best_value is None
