"""Which sampler `auto` is, and that a stage keeps it."""

from datetime import UTC, datetime, timedelta

import pytest

from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.summary import verdicts
from hpsearch.config import Choice, FloatRange, IntRange, load_settings
from hpsearch.report.history import provenance
from hpsearch.report.stage import StageData
from hpsearch.space import Observation
from hpsearch.stages.opening import keep_stored_ranges, open_stage, stored_plan, with_stored_sampler
from hpsearch.stages.planning import plan_coarse, plan_fine
from hpsearch.stages.sampler_choice import choose_coarse_sampler, choose_fine_sampler, seconds_per_trial
from hpsearch.storage import TrialRow

NUMBERS = {"lr": FloatRange(1e-4, 1e-1, log=True), "train.batch_size": IntRange(8, 64)}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ended_after(*seconds, state="COMPLETE"):
    """Trials that begin at noon, all at once, and end after so many seconds."""
    return [
        TrialRow(i, i, state, 0.5, started=NOON, completed=NOON + timedelta(seconds=s)) for i, s in enumerate(seconds)
    ]


class TestOfAFineStage:
    def test_gp_for_numbers_where_a_trial_takes_longer_than_a_proposal(self):
        chosen = choose_fine_sampler(NUMBERS, 100, 2.5)
        assert str(chosen) == "gp, as all ranges are of numbers, and a trial takes 2.5 s"

    @pytest.mark.parametrize(
        ("more", "trials", "seconds", "why"),
        [
            ({"train.optimizer": Choice(("sgd", "adam"))}, 50, 9.0, "train.optimizer is a choice"),
            (
                {"train.momentum": FloatRange(0.5, 0.9, when=(("train.optimizer", ("momentum",)),))},
                50,
                9.0,
                "not all trials have train.momentum",
            ),
            ({}, 101, 9.0, "more than 100 trials"),
            ({}, 50, 1.9, "a trial takes 1.9 s"),
            ({}, 50, None, "nothing says how long a trial takes"),
        ],
    )
    def test_tpe_else_and_why(self, more, trials, seconds, why):
        chosen = choose_fine_sampler({**NUMBERS, **more}, trials, seconds)
        assert chosen.sampler == "tpe"
        assert why in chosen.reason

    def test_one_choice_is_none(self):
        assert choose_fine_sampler({**NUMBERS, "train.optimizer": Choice(("sgd",))}, 50, 9.0).sampler == "gp"


class TestWhatATrialTakes:
    def test_trials_beside_each_other_take_their_share(self):
        assert seconds_per_trial(ended_after(8, 8, 8, 8, 16, 16, 16, 16), 1.0) == pytest.approx(2.0)

    def test_more_epochs_take_longer(self):
        assert seconds_per_trial(ended_after(1, 2, 3, 4), 4.0) == pytest.approx(4.0)

    def test_a_pause_between_two_calls_is_none_of_it(self):
        ends = [*range(1, 6), *range(3601, 3606)]
        assert seconds_per_trial(ended_after(*ends), 1.0) == pytest.approx(1.0)

    def test_trials_that_ended_early_or_are_few_say_nothing(self):
        assert seconds_per_trial(ended_after(1, 2, 3, 4, state="PRUNED"), 1.0) is None
        assert seconds_per_trial(ended_after(1, 2), 1.0) is None
        assert seconds_per_trial([], 1.0) is None


def evidence(study, seconds_apart):
    """Twelve trials of one epoch of `coarse`, the better the nearer to 1e-2."""
    ranges = {"lr": NUMBERS["lr"]}
    rates = [10 ** (-4 + 3 * i / 11) for i in range(12)]
    seen = [Observation(i, {"lr": lr}, 0.9 - abs(i - 7) / 20, "complete") for i, lr in enumerate(rates)]
    return StudyTrials(study, ended_after(*(seconds_apart * (i + 1) for i in range(12))), "maximize", ranges, seen)


SPACES = ("lr=log(1e-4,1e-1)", "reg=none")


OBJECTIVE = {"objective.function": "mine:bowl"}


@pytest.mark.parametrize("asked", [{}, {"coarse.sampler": "auto"}])
def test_a_coarse_stage_over_a_function_learns_from_trial_to_trial(asked):
    plan = plan_coarse(load_settings(flags={**OBJECTIVE, **asked}, spaces=SPACES))
    assert plan.settings.sampler == "tpe"
    assert "one after the other" in plan.chosen.reason


def test_it_draws_where_a_few_epochs_would_be_all_that_it_learns_from():
    assert choose_coarse_sampler(one_by_one=True, epochs=(5, 5)).sampler == "tpe"
    assert str(choose_coarse_sampler(one_by_one=True, epochs=(5, 20))).startswith("random, as 5 epochs can be mis")


def test_who_says_which_sampler_gets_it():
    given = plan_coarse(load_settings(flags={**OBJECTIVE, "coarse.sampler": "random"}, spaces=SPACES))
    assert (given.settings.sampler, given.chosen) == ("random", None)
    assert plan_coarse(load_settings(spaces=SPACES)).chosen is None  # over nets random is the default itself


def test_a_coarse_stage_that_is_there_keeps_its_sampler(db):
    given = plan_coarse(load_settings(flags={**OBJECTIVE, "coarse.sampler": "random"}, spaces=SPACES))
    study = open_stage(db, given, None)
    plan = plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES))
    assert open_stage(db, with_stored_sampler(plan, study), None).study_id == study.study_id


@pytest.mark.parametrize(("sampler", "kept"), [("random", ("adam",)), ("tpe", ("sgd", "adam"))])
def test_choices_that_a_sampler_favoured_are_not_dropped(db, sampler, kept):
    kinds = {"kind": Choice(("sgd", "adam"))}
    flags = {**OBJECTIVE, "coarse.sampler": sampler}
    coarse = open_stage(db, plan_coarse(load_settings(flags=flags, spaces=("kind=choice(sgd,adam)",))), None)
    seen = [Observation(i, {"kind": "adam" if i else "sgd"}, i / 12, "complete") for i in range(12)]
    found = StudyTrials(coarse, ended_after(*range(1, 13)), "maximize", kinds, seen)
    plan = plan_fine(found, load_settings(flags=OBJECTIVE))
    assert plan.space["kind"].values == kept
    assert [verdict.proposed.values for verdict in verdicts(found)] == [kept]
    assert ("all stay, as tpe chose how often each was tried" in plan.changes[0].reason) == (sampler == "tpe")


def test_a_coarse_stage_draws_at_random_and_is_the_same_search_as_one_that_says_so():
    asked = plan_coarse(load_settings(flags={"coarse.sampler": "auto"}, spaces=SPACES))
    assert asked.settings.sampler == "random"
    assert asked.fingerprint("") == plan_coarse(load_settings(spaces=SPACES)).fingerprint("")
    assert asked.provenance()["sampler"]["reason"].startswith("nets train side by side")


def test_a_fine_stage_keeps_its_sampler_whatever_a_trial_takes_now(db):
    coarse = open_stage(db, plan_coarse(load_settings(flags={"coarse.epochs": 1}, spaces=SPACES)), None)
    settings = load_settings(flags={"fine.sampler": "auto", "fine.epochs": 20})
    plan = plan_fine(evidence(coarse, 0.2), settings)
    assert plan.as_dict()["sampler"] == "gp"
    assert plan.as_dict()["sampler_reason"] == "all ranges are of numbers, and a trial takes 4 s"
    study = open_stage(db, plan, None)
    assert stored_plan(study).settings.sampler == "gp"
    assert ("sampler", f"{plan.chosen}") in provenance(StageData(read_study(db, study.name), {}))["rows"]

    later = plan_fine(evidence(coarse, 0.01), settings)
    assert later.settings.sampler == "tpe"
    kept, _ = keep_stored_ranges(db, later, frozenset())
    assert kept.chosen == plan.chosen
    assert open_stage(db, kept, None).study_id == study.study_id

    said = plan_fine(evidence(coarse, 0.01), load_settings(flags={"fine.sampler": "tpe", "fine.epochs": 20}))
    assert keep_stored_ranges(db, said, frozenset())[0].settings.sampler == "tpe"
