"""A training with given values as a stage: what it is, how it is found again and grows, what goes on from it."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.verdicts import verdicts
from hpsearch.config import FloatRange, IntRange
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.opening import open_stage, stored_plan
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.training_plan import SEED, plan_training
from hpsearch.storage import count_states, find_study, read_trials


class Images:
    fingerprint, shape, num_classes = "f", (1, 4, 4), 3
    num_train, num_val, largest_share = 72, 18, 0.4


def training(tiny, num_seeds=1, **other):
    return plan_training(tiny(**{"train.precision": "float32", "train.seed": 7, **other}).study, "train", num_seeds)


def test_the_runs_differ_by_their_seed_alone(tiny):
    plan = training(tiny, 3, **{"train.epochs": 4})
    assert plan.drawn() == [{SEED: 7}, {SEED: 8}, {SEED: 9}]
    assert (plan.settings.trials, plan.settings.epochs, plan.trial_config.train.epochs) == (3, 4, 4)
    configs = [plan.trial_config.with_params(params) for params in plan.drawn()]
    assert [config.with_params({SEED: 7}) for config in configs] == [plan.trial_config] * 3


def test_seeds_ranges_and_stages_are_no_part_of_the_identity_values_are(tiny):
    same = training(tiny).fingerprint("x")
    assert training(tiny, 5).fingerprint("x") == same
    assert training(tiny, space=["lr=log(1e-3,1e-2)"]).fingerprint("x") == same
    assert training(tiny, **{"coarse.trials": 3, "fine.epochs": 9}).fingerprint("x") == same
    for other in ({"train.epochs": 3}, {"train.seed": 8}, {"model.hidden": [7]}, {"data.val": 0.3}):
        assert training(tiny, **other).fingerprint("x") != same
    assert training(tiny).fingerprint("y") != same


def test_more_seeds_join_those_that_are_there_and_fewer_change_nothing(db, tiny):
    first = open_stage(db, training(tiny, 2), Images)
    before = read_trials(db, first)
    grown = open_stage(db, training(tiny, 4), Images)
    assert read_trials(db, grown)[:2] == before
    assert [trial.params[SEED] for trial in read_trials(db, grown)] == [7, 8, 9, 10]
    assert grown == find_study(db, "train") == open_stage(db, training(tiny, 1), Images)
    assert count_states(db, grown)["WAITING"] == 4
    assert stored_plan(grown).fingerprint("f") == grown.attrs[attributes.FINGERPRINT] == training(tiny).fingerprint("f")
    assert stored_plan(grown).seeds == range(7, 11)


def test_other_values_are_refused_with_the_differences(db, tiny):
    open_stage(db, training(tiny), Images)
    with pytest.raises(RefusedError, match=r"train.lr: 0.01 -> 0.5.*\n.*--name"):
        open_stage(db, training(tiny, **{"train.lr": 0.5, "space": ["lr=none"]}), Images)


def test_what_was_not_searched_cannot_be_narrowed_but_searched_around(db, tiny):
    plan = training(tiny, 2, **{"train.lr": 0.02, "train.reg": 1e-3, "space": ["lr=none", "reg=none"]})
    open_stage(db, plan, Images)
    evidence = read_study(db, "train")
    assert verdicts(evidence) == []
    with pytest.raises(RefusedError, match="hpsearch coarse --from train"):
        plan_fine(evidence, tiny())
    coarse = plan_coarse(tiny(space=["dropout=uniform(0,0.5)"]), check=evidence.study)
    assert coarse.source == "train"
    assert coarse.config.space["lr"] == FloatRange(6.3e-4, 0.63, log=True)
    assert coarse.config.space["reg"] == FloatRange(1e-5, 0.1, log=True)
    assert "model.dropout" in coarse.config.space
    assert "2.0e-02, with which train was trained" in coarse.ranges()[0]["reason"]
    given = plan_coarse(tiny(space=["lr=log(1e-4,1e-3)", "reg=none"]), check=evidence.study)
    assert given.config.space == {"lr": FloatRange(1e-4, 1e-3, log=True)}


def test_the_study_keeps_the_ranges_that_were_not_used(db, tiny):
    study = open_stage(db, training(tiny, space=["lr=log(1e-3,1e-2)", "reg=none"]), Images)
    assert study.attrs[attributes.CONFIG]["space"] == {"lr": {"log": [1e-3, 1e-2]}}
    assert stored_plan(study).config.space == {}
    assert read_trials(db, study)[0].ranges == {SEED: IntRange(7, 7)}


def test_a_search_without_ranges_says_what_trains_given_values(tiny):
    with pytest.raises(ConfigError, match=r"--space .*hpsearch train"):
        plan_coarse(tiny(space=["lr=none", "reg=none"]))
