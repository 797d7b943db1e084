"""What is kept with studies and trials: what the real way writes is read back, what others wrote is not believed."""

import json
import math
from dataclasses import fields, replace

import optuna
import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.chance import KeptImages
from hpsearch.analysis.records import ComparedSearch, Fitted, KeptRange, KeptWeights, StageRecord, stage_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.trial_records import TrialRecord, trial_record
from hpsearch.results import Explosion
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.repeat_plan import RepeatPlan
from hpsearch.stages.time_budget import with_budget
from hpsearch.stages.training_plan import SEED, plan_training
from hpsearch.storage import StudyRow, TrialRow, find_study, write_attrs

KEYS = {name: key for name, key in vars(attributes).items() if name.isupper()}
STUDY_KEYS = [key for key in KEYS.values() if key.startswith("hpsearch.")]
TRIAL_KEYS = [key for key in KEYS.values() if key not in STUDY_KEYS]


def run(db, plan, settings):
    return run_stage(db, plan, settings.run, checks=False)


def study(**kept):
    return StudyRow(1, "theirs", ("maximize",), {KEYS[name]: value for name, value in kept.items()})


def trial(record):
    return TrialRow(1, 0, "COMPLETE", attrs=json.loads(json.dumps(record.as_attributes(), allow_nan=False)))


def test_a_stage_keeps_what_it_was_made_from(db, tiny):
    settings = tiny(train__precision="float32")
    coarse = run(db, plan_coarse(settings), settings)
    plan = plan_fine(coarse, settings)
    record = run(db, plan, settings).record
    assert (record.kind, record.source, record.is_training) == ("fine", "coarse", False)
    assert (record.config, record.num_epochs) == (plan.config.plain(), plan.settings.epochs)
    assert record.images.fingerprint is not None
    assert record.identity == json.loads(json.dumps(plan.identity(record.images.fingerprint)))
    assert record.fingerprint == plan.fingerprint(record.images.fingerprint)
    assert record.reasons == {change.param: change.reason for change in plan.changes}
    assert record.ranges[0] == KeptRange(**plan.changes[0].as_dict())
    assert (record.images.num_classes, record.images.shape) == (3, (1, 4, 4))
    assert record.images.has_test
    assert record.trained_here
    assert record.value_name == "val_acc"
    assert {"hpsearch", "torch"} <= record.versions.keys()
    assert record.learning["sampler"] == plan.settings.sampler
    assert (record.compared, record.checks, record.fitted) == (None, None, None)
    assert (record.stop_asked_at, record.tests) == (None, ())


def test_a_trial_keeps_how_it_ended_and_its_study_where_the_weights_of_the_best_are(db, tiny):
    settings = tiny()
    evidence = run(db, plan_coarse(settings), settings)
    best, record = evidence.best, trial_record(evidence.best)
    assert best.intermediate[record.best_epoch] == best.value
    assert record.last_value == best.intermediate[max(best.intermediate)]
    assert record == TrialRecord(best_epoch=record.best_epoch, last_value=record.last_value)
    kept = read_study(db, "coarse").record.weights
    assert kept == KeptWeights(kept.path, best.number, best.value, record.best_epoch, kept.measures)
    assert kept.measures["accuracy"] == pytest.approx(best.value)
    assert read_study(db, "coarse").measures_of(best) == kept.measures
    assert kept.path.is_file()


def test_a_trial_that_exploded_keeps_where(db, tiny):
    settings = tiny(space=["lr=log(1e6,1e7)", "reg=none"])
    for each in run(db, plan_coarse(settings), settings).trials:
        record = trial_record(each)
        assert record.exploded
        assert record.explosion == (record.epoch, record.step)
        assert record.cost is not None
        assert math.isfinite(record.first_cost)
        assert not record.stopped_early


def test_a_training_keeps_its_seeds(db, tiny):
    settings = tiny()
    record = run(db, plan_training(settings.study, num_seeds=2), settings).record
    first = settings.study.train.seed
    assert (record.kind, record.is_training, record.num_epochs) == ("train", True, settings.study.train.epochs)
    assert [(row.param, row.new) for row in record.ranges] == [(SEED, [first, first + 1])]


def test_what_plans_and_others_add_is_read_back(db, tiny):
    settings = tiny()
    asked = plan_coarse(settings)
    plan = with_budget(asked, 2, 1, Fitted(30, 10, 60.04))
    assert run(db, plan, settings).record.fitted == Fitted(30, 10, 60.0)
    repeat = RepeatPlan("compare/random/1", "compare", settings.study, comparison="a", repeat=1, num_repeats=3)
    assert run(db, repeat, settings).record.compared == ComparedSearch("a", settings.study.coarse.sampler, 1, 3, 1)
    write_attrs(db, find_study(db, "coarse"), {attributes.STOP: db.read_now(), attributes.TESTS: [{"mean": 0.5}]})
    record = read_study(db, "coarse").record
    assert record.stop_asked_at == pytest.approx(db.read_now(), abs=60)
    assert record.tests == ({"mean": 0.5},)


def test_what_a_trial_keeps_is_read_back():
    explosion = TrialRecord.of_explosion(Explosion(0, 2, 7, math.inf, 1.5))
    assert trial_record(trial(explosion)) == explosion
    assert trial(explosion).attrs[attributes.COST] == "inf"
    assert math.isnan(trial_record(trial(TrialRecord(cost=math.nan))).cost)
    assert trial(TrialRecord()).attrs == {}
    early = TrialRecord(attributes.STOPPED_EARLY, 3, best_epoch=2, last_value=0.5)
    assert trial_record(trial(early)) == early
    assert early.stopped_early
    assert early.explosion is None
    by_loss = TrialRecord(best_epoch=2, last_value=math.nan, last_acc=0.5, best_acc=0.6, measures={"loss": 0.25})
    kept = trial(by_loss).attrs
    assert (kept[attributes.LAST_VALUE], kept[attributes.LAST_SCORE], kept[attributes.BEST_ACC]) == (0.5, "nan", 0.6)
    again = trial_record(trial(by_loss))
    assert math.isnan(again.last_value)
    assert replace(again, last_value=None) == replace(by_loss, last_value=None)


def test_a_study_of_another_program_keeps_nothing(db):
    theirs = optuna.create_study(study_name="theirs", storage=db.optuna_storage())
    theirs.set_user_attr("author", "somebody")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    evidence = read_study(db, "theirs")
    assert evidence.record == StageRecord()
    assert (evidence.record.value_name, evidence.record.num_epochs) == ("value", None)
    assert not evidence.record.trained_here
    assert evidence.record.config_value("coarse", "epochs") is None
    assert [trial_record(each) for each in evidence.trials] == [TrialRecord()] * 2


@pytest.mark.parametrize("value", [None, True, 1.5, "no such kind", [1, None, "x"], [[]], {"a": 1}, {"from": 3}])
def test_what_is_of_another_type_counts_as_not_kept(value):
    kept = stage_record(StudyRow(1, "theirs", ("maximize",), dict.fromkeys(STUDY_KEYS, value)))
    allowed = {
        dict: {"config", "identity", "checks", "learning"},
        str: {"fingerprint", "rounding"},
        float: {"stop_asked_at"},
    }
    for field in fields(StageRecord):
        if field.name not in allowed.get(type(value), ()):
            assert getattr(kept, field.name) == getattr(StageRecord(), field.name), field.name
    numbers = {"cost", "first_cost", "last_value", "last_acc", "best_acc", "plain_value"}
    allowed = {str: {"reason", "traceback", "weights"}, float: numbers, dict: {"measures"}}
    ended = trial_record(TrialRow(1, 0, "FAIL", attrs=dict.fromkeys(TRIAL_KEYS, value)))
    for field in fields(TrialRecord):
        if field.name not in allowed.get(type(value), ()):
            assert getattr(ended, field.name) is None, field.name


def test_of_what_is_half_right_the_right_half_is_read():
    images = {"classes": 4, "shape": [3, "8", 8], "val": "90", "largest": 0.3, "fingerprint": "f"}
    ranges = [{"param": "lr", "old": None, "new": [0.1, 1.0], "reason": "given"}, {"param": "reg"}, 3]
    record = stage_record(study(DATASET=images, PROVENANCE={"from": "coarse", "ranges": ranges}, CONFIG={"fine": 3}))
    assert record.images == KeptImages(num_classes=4, largest_share=0.3, fingerprint="f")
    assert (record.source, record.ranges) == ("coarse", (KeptRange("lr", None, [0.1, 1.0], "given"),))
    assert record.config_value("fine", "epochs") is None
    assert stage_record(study(COMPARISON={"name": "a"}, FITTED={"trials": 3}, PORTRAIT={"path": 1})) == StageRecord()
