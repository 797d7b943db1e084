"""Which sampler `auto` is, and that a stage keeps it."""

import itertools
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.together import Together, found_together
from hpsearch.analysis.verdicts import verdicts
from hpsearch.config import Choice, FloatRange, IntRange, load_settings
from hpsearch.errors import ConfigError
from hpsearch.report.history import provenance
from hpsearch.report.stage import StageData
from hpsearch.space import Observation
from hpsearch.stages import fine_planning
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.next_ranges import planned_summary, planned_verdicts
from hpsearch.stages.opening import keep_stored_ranges, open_stage, stored_plan, with_stored_sampler
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.sampler_choice import (
    choose_coarse_sampler,
    choose_fine_sampler,
    partial_params,
    seconds_at_rungs,
    seconds_of_call,
    seconds_of_gp,
    seconds_per_trial,
)
from hpsearch.stages.validation import validate_proposals
from hpsearch.storage import STRUCTURE, NewTrial, Outcome, Queue, TrialRow, create_stage, find_study, write_attrs
from hpsearch.storage.deleting import delete_study

NUMBERS = {"lr": FloatRange(1e-4, 1e-1, log=True), "train.batch_size": IntRange(8, 64)}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ended_after(*seconds, state="COMPLETE"):
    """Trials that begin at noon, all at once, and end after so many seconds."""
    return [
        TrialRow(i, i, state, 0.5, started=NOON, completed=NOON + timedelta(seconds=s)) for i, s in enumerate(seconds)
    ]


class TestOfAFineStage:
    def test_gp_where_trials_take_longer_than_its_proposals(self):
        chosen = choose_fine_sampler(NUMBERS, 100, 0.25)
        assert str(chosen) == "gp, as it finds most in few trials: a trial takes 250 ms, a proposal of gp 240 ms"

    @pytest.mark.parametrize(
        ("more", "trials", "seconds", "known", "why"),
        [
            (
                {"train.momentum": FloatRange(0.5, 0.9, when=(("train.optimizer", ("momentum",)),))},
                50,
                9.0,
                0,
                "not all trials have train.momentum",
            ),
            ({"tail": FloatRange(0.5, 0.9)}, 50, 9.0, 0, "not all trials have tail"),
            ({}, 401, 9.0, 0, "more than 400 trials, and here are 401"),
            ({}, 50, 9.0, 351, "more than 400 trials, and here are 401"),
            ({}, 50, 0.2, 0, "a trial takes 200 ms, a proposal of gp 2"),
            ({}, 50, None, 0, "nothing says how long a trial takes"),
            ({"seed": IntRange(0, 2**32 - 1)}, 50, 9.0, 0, "all values of seed in memory, and they are 4,294,967,296"),
            ({"width": IntRange(1, 2**32, log=True)}, 50, 9.0, 0, "all values of width in memory"),
            ({"rate": FloatRange(0.0, 1.0, step=1e-9)}, 50, 9.0, 0, "they are 1,000,000,001"),
        ],
    )
    def test_tpe_else_and_why(self, more, trials, seconds, known, why):
        chosen = choose_fine_sampler({**NUMBERS, **more}, trials, seconds, known, partial={"tail", "other"})
        assert chosen.sampler == "tpe"
        assert why in chosen.reason

    def test_gp_where_a_whole_number_has_as_many_values_as_memory_takes(self):
        assert choose_fine_sampler({**NUMBERS, "seed": IntRange(1, 10**7)}, 50, 9.0).sampler == "gp"
        assert choose_fine_sampler({**NUMBERS, "seed": IntRange(0, 10**10, step=10**4)}, 50, 9.0).sampler == "gp"

    def test_proposals_cost_more_with_more_to_learn_from_and_with_choices_beside_whole_numbers(self):
        choice = {"train.optimizer": Choice(("sgd", "adam"))}
        rates = {"lr": NUMBERS["lr"]}
        assert seconds_of_gp(rates, 50, 100) > seconds_of_gp(rates, 50, 0) > seconds_of_gp(rates, 20, 0)
        assert seconds_of_gp({**rates, **choice}, 50, 0) == seconds_of_gp(rates, 50, 0)
        assert seconds_of_gp({**NUMBERS, **choice}, 50, 0) > seconds_of_gp(NUMBERS, 50, 0)
        one = {"train.optimizer": Choice(("sgd",))}  # nothing to try in turn
        assert seconds_of_gp({**NUMBERS, **one}, 50, 0) == seconds_of_gp(NUMBERS, 50, 0)

    def test_choices_are_searched_by_it_too(self):
        assert choose_fine_sampler({**NUMBERS, "train.optimizer": Choice(("sgd", "adam"))}, 50, 9.0).sampler == "gp"

    def test_partial_are_those_that_some_trials_with_a_value_had(self):
        seen = [
            Observation(0, {"a": 1.0, "b": 1.0}, 0.5, "complete"),
            Observation(1, {"a": 1.0}, 0.5, "complete"),
            Observation(2, {"c": 1.0}, None, "failed"),
        ]
        assert partial_params(seen) == {"b"}
        assert partial_params(seen[:1]) == partial_params([]) == set()


class TestWhatATrialTakes:
    def test_trials_beside_each_other_take_their_share(self):
        assert seconds_per_trial(ended_after(8, 8, 8, 8, 16, 16, 16, 16), 1.0) == pytest.approx(2.0)

    def test_a_call_takes_what_it_takes_whoever_else_calls(self):
        assert seconds_of_call(ended_after(8, 8, 8, 8, 16, 16, 16, 16), 2.0) == pytest.approx(24.0)
        assert seconds_of_call([*ended_after(*[1] * 9), *ended_after(3600)], 1.0) == pytest.approx(1.0)
        assert seconds_of_call(ended_after(1, 2), 1.0) is None

    def test_more_epochs_take_longer(self):
        assert seconds_per_trial(ended_after(1, 2, 3, 4), 4.0) == pytest.approx(4.0)

    def test_a_pause_between_two_calls_is_none_of_it(self):
        ends = [*range(1, 6), *range(3601, 3606)]
        assert seconds_per_trial(ended_after(*ends), 1.0) == pytest.approx(1.0)

    def test_trials_that_ended_early_or_are_few_say_nothing(self):
        assert seconds_per_trial(ended_after(1, 2, 3, 4, state="PRUNED"), 1.0) is None
        assert seconds_per_trial(ended_after(1, 2), 1.0) is None
        assert seconds_per_trial([], 1.0) is None


def test_at_rungs_an_epoch_takes_what_those_of_all_trials_took():
    """Nine trials that end after one epoch, and one of nine, two seconds for each epoch."""
    two = timedelta(seconds=2)
    trials = [
        TrialRow(i, i, "PRUNED", None, intermediate={1: 0.5}, started=NOON + i * two, completed=NOON + (i + 1) * two)
        for i in range(9)
    ]
    curve = dict.fromkeys(range(1, 10), 0.6)
    whole = TrialRow(9, 9, "COMPLETE", 0.6, intermediate=curve, started=NOON + 9 * two, completed=NOON + 18 * two)
    paused = TrialRow(10, 10, "PRUNED", None, intermediate={1: 0.5}, started=NOON, completed=NOON + timedelta(hours=9))
    assert seconds_at_rungs([*trials, whole, paused], 10) == pytest.approx(10 * 18 * 2 / 19)
    assert seconds_per_trial([*trials, whole], 1.0) is None
    assert seconds_at_rungs([*trials[:2]], 10) is None
    assert (
        seconds_at_rungs([TrialRow(i, i, "PRUNED", None, started=NOON, completed=NOON) for i in range(4)], 10) is None
    )


def one_by_one(seconds, number):
    """Trials of which each begins when the one before has ended."""
    return [
        TrialRow(i, i, "COMPLETE", 0.5, started=NOON + i * each, completed=NOON + (i + 1) * each)
        for each in [timedelta(seconds=seconds)]
        for i in range(number)
    ]


def evidence(study, seconds_each):
    """Twelve trials of one epoch of `coarse`, the better the nearer to 1e-2."""
    ranges = {"lr": NUMBERS["lr"]}
    rates = [10 ** (-4 + 3 * i / 11) for i in range(12)]
    seen = [Observation(i, {"lr": lr}, 0.9 - abs(i - 7) / 20, "complete") for i, lr in enumerate(rates)]
    return StudyTrials(study, one_by_one(seconds_each, 12), "maximize", ranges, seen)


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


def test_a_fine_stage_over_a_function_is_of_what_finds_most_in_the_time(db):
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    flags = {**OBJECTIVE, "fine.epochs": 5}  # as in coarse
    plans = [plan_fine(evidence(coarse, seconds), load_settings(flags=flags)) for seconds in (5.0, 0.01)]
    assert [plan.seconds_before for plan in plans] == pytest.approx([250.0, 0.5])
    assert [plan.settings.sampler for plan in plans] == ["gp", "tpe"]
    assert all(plan.chosen for plan in plans)
    nets = open_stage(db, plan_coarse(load_settings(spaces=SPACES), name="nets"), None)
    assert plan_fine(evidence(nets, 5.0), load_settings()).settings.sampler == "tpe"


STAYS = "all of it stays, as gp knows its trials"


def test_what_was_searched_stays_before_a_gaussian_process_that_knows_all_of_it(db):
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    flags = {**OBJECTIVE, "fine.epochs": 5}  # as in coarse
    whole = plan_fine(evidence(coarse, 5.0), load_settings(flags=flags))
    assert whole.space["lr"] == NUMBERS["lr"]
    assert STAYS in whole.changes[0].reason
    assert whole.chosen.sampler == "gp"
    said = plan_fine(evidence(coarse, 0.01), load_settings(flags={**flags, "fine.sampler": "gp"}))
    assert said.space == whole.space
    assert said.changes[0].reason.endswith(STAYS)
    given = plan_fine(evidence(coarse, 5.0), load_settings(flags=flags, spaces=("lr=log(1e-3,1e-2)",)))
    assert given.space["lr"].high == 1e-2


def test_it_is_said_for_how_many_trials_gp_was_chosen_as_fewer_may_have_another_sampler(db):
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    flags = {**OBJECTIVE, "fine.epochs": 5}
    plans = [plan_fine(evidence(coarse, 0.3), load_settings(flags={**flags, "fine.trials": n})) for n in (50, 12)]
    assert [plan.settings.sampler for plan in plans] == ["gp", "tpe"]
    assert plans[0].changes[0].reason.endswith(f"{STAYS}; gp is the choice for 50 trials")


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"fine.sampler": "tpe"},
        {"fine.epochs": 4},  # the command that is printed has those of coarse
        {"fine.epochs": 5, "coarse.halving": "stop"},
        {"fine.epochs": 5},
    ],
    ids=str,
)
def test_what_is_shown_to_search_next_is_what_the_fine_stage_would_do(db, flags):
    flags = {**OBJECTIVE, "fine.sampler": "gp", "coarse.epochs": 5, **flags}
    coarse = open_stage(db, plan_coarse(load_settings(flags=flags, spaces=SPACES)), None)
    found = evidence(coarse, 5.0)
    epochs = max(5, flags.get("fine.epochs", 20))
    plan = plan_fine(found, load_settings(flags={**flags, "fine.epochs": epochs}))
    shown = planned_verdicts(found)
    planned = {change.param: (change.new, change.reason) for change in plan.changes}
    assert {verdict.param: (verdict.proposed, verdict.reason) for verdict in shown} == planned
    stays = flags["fine.sampler"] == "gp" and epochs == 5 and "coarse.halving" not in flags
    assert (STAYS in shown[0].reason) == stays
    assert planned_summary(found).verdicts == tuple(shown) == StageData(found, {}).summary.verdicts


@pytest.mark.parametrize(
    "flags",
    [
        {"fine.sampler": "tpe"},
        {"fine.forget": True},
        {"fine.epochs": 20},  # a few epochs are moved by what further ones gave, which says less
        {"objective.function": "mine:other"},
        {"fine.sampler": "cmaes"},
    ],
    ids=lambda flags: next(iter(flags)),
)
def test_ranges_narrow_before_what_does_not_know_all_of_it(db, flags):
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    settings = load_settings(flags={**OBJECTIVE, "fine.epochs": 5, "fine.sampler": "gp", **flags})
    plan = plan_fine(evidence(coarse, 5.0), settings)
    assert plan.space["lr"].low > NUMBERS["lr"].low
    assert STAYS not in plan.changes[0].reason


@pytest.mark.parametrize("gone", ["s1", "s2", "s3"])
def test_ranges_narrow_where_a_stage_before_is_gone_whose_trials_nobody_knows_any_more(db, gone):
    flags = {**OBJECTIVE, "coarse.epochs": 5, "fine.epochs": 5, "fine.sampler": "gp"}
    settings = load_settings(flags=flags, spaces=SPACES)
    for source, name in itertools.pairwise([None, "s1", "s2", "s3", "s4"]):
        kept = {attributes.STAGE: "fine" if source else "coarse", attributes.CONFIG: settings.study.plain()}
        kept[attributes.PROVENANCE] = {"from": source, "ranges": []}
        rates = [NewTrial({"lr": 10 ** (-4 + 3 * i / 11)}, {STRUCTURE: "own"}) for i in range(12)]
        study = create_stage(db, name, "maximize", kept, {"lr": NUMBERS["lr"]}, rates)
        queue = Queue(db, study, "worker", lease_seconds=600.0)
        queue.finish([Outcome(lease, "COMPLETE", 0.9 - abs(lease.number - 7) / 20) for lease in queue.take(12)])

    def planned():
        found = read_study(db, "s4")
        [change] = plan_fine(found, load_settings(flags=flags)).changes
        [shown] = planned_verdicts(found)
        assert (shown.proposed, shown.reason) == (change.new, change.reason)
        return change

    assert planned().new == NUMBERS["lr"]
    assert STAYS in planned().reason
    delete_study(db, find_study(db, gone))
    assert planned().new.low > NUMBERS["lr"].low
    assert STAYS not in planned().reason


def test_a_whole_number_of_more_values_than_memory_takes_is_narrowed_before_gp_or_refused(db):
    wide = [*SPACES, "seed=int(0,4294967295)"]
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=wide)), None)
    found = evidence(coarse, 5.0)
    found = replace(
        found,
        ranges={**found.ranges, "seed": IntRange(0, 2**32 - 1)},
        observations=[replace(each, params={**each.params, "seed": each.number}) for each in found.observations],
    )
    plan = plan_fine(found, load_settings(flags={**OBJECTIVE, "fine.epochs": 5, "fine.sampler": "gp"}))
    assert all(STAYS not in change.reason for change in plan.changes)
    with pytest.raises(
        ConfigError, match=r"^space\.seed has [0-9,]+ values, .*\nAllowed: up to 10,000,000, or another"
    ):
        validate_proposals(
            replace(plan, config=load_settings(flags={**OBJECTIVE, "fine.sampler": "gp"}, spaces=wide).study)
        )


def test_ranges_narrow_where_a_pruner_ended_trials_of_which_nothing_is_told(db):
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    found, settings = evidence(coarse, 5.0), load_settings(flags={**OBJECTIVE, "fine.epochs": 5})
    for value, stays in ((None, True), (0.3, False)):  # one that has no value is told as tried
        pruned = Observation(12, {"lr": 2e-3}, value, "pruned")
        plan = plan_fine(replace(found, observations=[*found.observations, pruned]), settings)
        assert (plan.space["lr"] == NUMBERS["lr"]) == stays


def test_ranges_narrow_where_there_are_too_many_trials_to_be_known(db, monkeypatch):
    coarse = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    monkeypatch.setattr(fine_planning, "MOST_OF_GP", 11)
    plan = plan_fine(evidence(coarse, 5.0), load_settings(flags={**OBJECTIVE, "fine.epochs": 5}))
    assert plan.settings.sampler == "gp"
    assert plan.space["lr"].low > NUMBERS["lr"].low


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["needle", "ridges", "bowl"])
def test_ranges_narrow_where_a_gaussian_process_explains_too_little_of_the_trials(db, shape):
    ranges = {name: FloatRange(0.0, 1.0) for name in "abcd"}
    flags = {**OBJECTIVE, "fine.epochs": 5, "fine.sampler": "gp"}
    spaces = [f"{name}=uniform(0.0, 1.0)" for name in ranges]
    coarse = open_stage(db, plan_coarse(load_settings(flags=flags, spaces=spaces)), None)
    rng, seen = random.Random(0), []
    for number in range(40):
        a, b, c, d = point = [rng.random() for _ in ranges]
        off = 20 * (a + b - 1) ** 2 + 10 * (c - d) ** 2
        if shape != "ridges":
            off = sum((30 if shape == "needle" else 3) * (x - 0.4) ** 2 for x in point)
        seen.append(Observation(number, dict(zip(ranges, point, strict=True)), math.exp(-off), "complete"))
    found = StudyTrials(coarse, one_by_one(5.0, 40), "maximize", ranges, seen)
    plan = plan_fine(found, load_settings(flags=flags, spaces=()))
    narrower = [name for name, new in plan.space.items() if new.high - new.low < 1]
    assert bool(narrower) == (shape == "needle")
    together = Together(("a", "b", "c", "d"), "coarse") if shape == "ridges" else None
    assert plan.together == planned_summary(found).together == together
    assert plan.notes == ((f"{together}, so gp proposes along lines that no range follows",) if together else ())
    for left_out, left in ((["a=none"], "bcd"), (["b=none", "c=none", "d=none"], "a")):
        without = plan_fine(found, load_settings(flags=flags, spaces=left_out))
        assert without.together == (found_together(left, "coarse") if together else None)
        assert any("count together" in note for note in without.notes) == (without.together is not None)
    said = [change.param for change in plan.changes if "; narrower, as gp explains no more than" in change.reason]
    assert said == narrower
    planned = {change.param: (change.new, change.reason) for change in plan.changes}
    assert {verdict.param: (verdict.proposed, verdict.reason) for verdict in planned_verdicts(found)} == planned


def test_what_counts_together_is_kept_with_the_fine_stage_as_it_was_when_that_was_made(db):
    flags = {**OBJECTIVE, "fine.epochs": 5, "fine.sampler": "gp"}
    coarse = open_stage(db, plan_coarse(load_settings(flags=flags, spaces=SPACES)), None)
    plan = plan_fine(evidence(coarse, 5.0), load_settings(flags=flags))
    assert plan.together is None  # a bowl
    lines = replace(plan, together=Together(("lr", "wd"), "coarse"))
    study = open_stage(db, lines, None)
    assert stage_record(study).together == stored_plan(study).together == lines.together
    stage = StageData(read_study(db, study.name), {})
    assert stage.together == stage.summary.together == lines.together
    assert stage.summary.as_dict()["together"] == {"params": ["lr", "wd"], "study": "coarse"}
    assert ("together", lines.together.text) in provenance(stage)["rows"]

    kept, _ = keep_stored_ranges(db, plan, frozenset())
    assert kept.together == lines.together
    assert open_stage(db, kept, None).study_id == study.study_id

    older = {name: value for name, value in plan.provenance().items() if name != "together"}
    write_attrs(db, study, {attributes.PROVENANCE: older})
    assert read_study(db, study.name).record.together is None
    assert keep_stored_ranges(db, lines, frozenset())[0].together is None
    assert open_stage(db, lines, None).study_id == study.study_id  # the same search


@pytest.mark.parametrize(("sampler", "num_notes"), [("gp", 1), ("tpe", 0)])
def test_what_counts_together_is_kept_by_the_stage_after_it_whose_trials_lie_along_the_line(db, sampler, num_notes):
    flags = {**OBJECTIVE, "fine.epochs": 5, "fine.sampler": sampler}
    together = {"params": ["lr", "wd"], "study": "coarse"}
    fine = open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None)
    fine = replace(fine, attrs={**fine.attrs, attributes.PROVENANCE: {"together": together}})
    found = evidence(fine, 5.0)
    seen = [replace(each, params={**each.params, "wd": (each.number * 5 % 12) / 12}) for each in found.observations]
    found = replace(found, observations=seen, ranges={**found.ranges, "wd": FloatRange(0.0, 1.0)})
    plan, without = (plan_fine(found, load_settings(flags=flags, spaces=removed)) for removed in ((), ["wd=none"]))
    assert plan.as_dict()["together"] == together
    assert len([note for note in plan.notes if note.startswith("lr and wd count together")]) == num_notes
    assert without.together is None
    assert not any("count together" in note for note in without.notes)


@pytest.mark.parametrize(("sampler", "said"), [("gp", True), ("cmaes", True), ("tpe", False)])
def test_what_not_all_trials_ask_for_is_said_to_be_drawn(db, sampler, said):
    flags = {**OBJECTIVE, "objective.form": "optuna"}
    coarse = open_stage(db, plan_coarse(load_settings(flags=flags)), None)
    found = evidence(coarse, 5.0)
    seen = [
        replace(each, params={**each.params, "depth": 3} if each.number % 2 else each.params)
        for each in found.observations
    ]
    found = replace(found, observations=seen, ranges={**found.ranges, "depth": IntRange(1, 9)})
    plan = plan_fine(found, load_settings(flags={**flags, "fine.sampler": sampler}))
    assert [note for note in plan.notes if "depth is drawn at random" in note] == list(plan.notes) * said


def test_choices_of_an_optuna_objective_stay_after_a_study_of_plain_optuna_too(db):
    """It names them itself: said to be dropped, one would be tried all the same."""
    theirs = replace(open_stage(db, plan_coarse(load_settings(flags=OBJECTIVE, spaces=SPACES)), None), attrs={})
    found = evidence(theirs, 5.0)
    seen = [replace(o, params={**o.params, "kind": "b" if o.number % 2 else "a"}) for o in found.observations]
    seen = [replace(each, value=1.0 if each.params["kind"] == "a" else 0.0) for each in seen]
    found = replace(found, observations=seen, ranges={**found.ranges, "kind": Choice(("a", "b"))})
    asked, called = (
        plan_fine(found, load_settings(flags={**OBJECTIVE, "objective.form": form})) for form in ("call", "optuna")
    )
    assert asked.space["kind"] == Choice(("a",))
    assert called.space["kind"] == Choice(("a", "b"))


def test_the_steps_of_an_optuna_objective_are_no_ranges_that_moved(db):
    """A study keeps none of them; to go on was said to find that the source had gone on."""
    flags = {**OBJECTIVE, "objective.form": "optuna"}
    coarse = open_stage(db, plan_coarse(load_settings(flags=flags)), None)
    found = evidence(coarse, 5.0)
    seen = [replace(each, params={**each.params, "width": 8 * (each.number + 1)}) for each in found.observations]
    found = replace(found, observations=seen, ranges={**found.ranges, "width": IntRange(8, 128, step=8)})
    plan = plan_fine(found, load_settings(flags=flags))
    open_stage(db, plan, None)
    assert keep_stored_ranges(db, plan, frozenset())[1] == []


def test_a_fine_stage_keeps_its_sampler_whatever_a_trial_takes_now(db):
    coarse = open_stage(db, plan_coarse(load_settings(flags={"coarse.epochs": 1}, spaces=SPACES)), None)
    settings = load_settings(flags={"fine.sampler": "auto", "fine.epochs": 20})
    plan = plan_fine(evidence(coarse, 0.2), settings)
    assert plan.as_dict()["sampler"] == "gp"
    assert "a trial takes 4.0 s, a proposal of gp 2" in plan.as_dict()["sampler_reason"]
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
