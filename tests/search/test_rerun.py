"""A trial trained again from what is stored of it."""

import dataclasses
import json

import optuna
import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import read_study
from hpsearch.errors import RefusedError
from hpsearch.results import EpochResult
from hpsearch.search.rerun import best_gap, compare, rerun
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, read_trials, write_attrs
from hpsearch.training.images import load_images


def search(db, settings):
    plan = plan_coarse(settings)
    return run_stage(db, plan, settings.run, checks=False)


def complete(evidence):
    return [trial.number for trial in evidence.trials if trial.state == "COMPLETE"]


def epoch(number=1, **values):
    same = dict.fromkeys(("cost", "train_loss", "train_acc", "val_loss", "val_acc", "update_ratio", "lr"), 0.5)
    return EpochResult(number=0, epoch=number, **{**same, **values})


def test_an_equal_curve_is_exact():
    comparison = compare([epoch(), epoch(2)], [epoch(), epoch(2)])
    assert (comparison.match, comparison.num_epochs) == ("exact", 2)
    assert set(comparison.differences.values()) == {0.0}


@pytest.mark.parametrize(
    ("number", "cost", "match"),
    [
        (1, 0.5 * (1 + 1e-6), "rounding"),
        (1, 0.5 * (1 + 1e-3), "different"),
        (9, 0.52, "rounding"),
        (9, 0.6, "different"),
    ],
)
def test_rounding_may_grow_with_the_epochs_but_not_begin_large(number, cost, match):
    comparison = compare([epoch(number)], [epoch(number, cost=cost)])
    assert comparison.match == match
    assert comparison.differences["cost"] == pytest.approx(cost - 0.5)


def test_a_curve_that_ends_early_is_another_one():
    comparison = compare([epoch(), epoch(2)], [epoch()])
    assert comparison.match == "different"
    assert comparison.differences["cost"] == float("inf")


def test_every_trial_of_a_stage_follows_its_curve_alone(db, tiny):
    settings = tiny()
    evidence = search(db, settings)
    for number in complete(evidence):
        result = rerun(db, settings.run, "coarse", number, num_seeds=1)
        assert result.comparison.match in ("exact", "rounding")
        assert result.comparison.num_epochs == 2
        assert result.trainings[0].value == evidence.trials[number].value
        assert result.other_versions == {}


def test_trials_of_searched_nets_follow_their_curves(db, tiny):
    """Whatever of a net is searched, its weights and its noise are those of the trial alone."""
    space = [
        "reg=none",
        "lr=log(1e-4,1e-3)",
        "norm=choice(none,layer,group)",
        "activation=choice(elu,none)",
        "init=choice(lsuv,orthogonal)",
        "dropconnect=uniform(0,0.5)",
        "dropout=uniform(0,0.5)",
    ]
    net = {"model__name": "convnet", "model__channels": [4], "model__groups": 2, "model__dropout_at": "all"}
    settings = tiny(**net, model__convs=[2], model__pool="average", coarse__trials=6, space=space)
    evidence = search(db, settings)
    assert complete(evidence) == list(range(6))
    for number in (0, 3, 5):
        result = rerun(db, settings.run, "coarse", number, num_seeds=1)
        assert result.comparison.match in ("exact", "rounding")


def test_in_float64_the_curve_is_the_same_to_the_last_digits(db, tiny):
    settings = tiny(train__precision="float64")
    for number in complete(search(db, settings)):
        result = rerun(db, settings.run, "coarse", number, num_seeds=1)
        assert max(result.comparison.differences.values()) < 1e-9


def test_a_trial_that_was_not_trained_so_does_not_follow(db, tiny):
    """What is stored says another seed than the one that was used."""
    settings = tiny()
    number = complete(search(db, settings))[0]
    study = find_study(db, "coarse")
    config = study.attrs[attributes.CONFIG]
    config["train"]["seed"] = 1
    write_attrs(db, study, {attributes.CONFIG: config, attributes.VERSIONS: {"torch": "0.1"}})
    result = rerun(db, settings.run, "coarse", number, num_seeds=1)
    assert result.comparison.match == "different"
    assert result.other_versions["torch"][0] == "0.1"


def test_seeds_alone_move_it(db, tiny):
    settings = tiny(data__synthetic__noise=2.0)
    evidence = search(db, settings)
    number = complete(evidence)[0]
    result = rerun(db, settings.run, "coarse", number, num_seeds=4)
    assert [training.seed for training in result.trainings] == [0, 1, 2, 3]
    assert result.values[0] == evidence.trials[number].value
    assert len(set(result.values)) > 1
    assert result.std > 0
    plain = result.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == {**plain}
    assert plain["seeds"] == dict(zip("0123", result.values, strict=True))


def test_nothing_is_written(db, tiny):
    settings = tiny()
    evidence = search(db, settings)
    rerun(db, settings.run, "coarse", complete(evidence)[0], num_seeds=2)
    again = read_study(db, "coarse")
    assert again.trials == evidence.trials
    assert again.study.attrs == find_study(db, "coarse").attrs == evidence.study.attrs


def test_an_explosion_comes_again_at_the_same_step(db, tiny):
    settings = tiny(coarse__trials=6, space=["lr=log(1e6,1e8)", "reg=none"])
    search(db, settings)
    for trial in read_trials(db, find_study(db, "coarse")):
        result = rerun(db, settings.run, "coarse", trial.number, num_seeds=2)
        assert result.recorded_explosion == result.explosion == (1, trial.attrs[attributes.STEP])
        assert result.comparison.match == "nothing recorded"
        assert result.values == []
        assert result.best_gap is None
        json.dumps(result.as_dict(), allow_nan=False)


def test_a_pruned_trial_is_trained_as_far_as_it_came(db, tiny):
    settings = tiny(
        coarse__trials=16, coarse__epochs=4, coarse__pruner="median", coarse__pruner_options={"n_startup_trials": 4}
    )
    evidence = search(db, settings)
    stopped = next(trial for trial in evidence.trials if trial.attrs.get(attributes.REASON) == "median")
    result = rerun(db, settings.run, "coarse", stopped.number, num_seeds=1)
    assert [point.epoch for point in result.trainings[0].results] == list(stopped.intermediate)
    assert result.comparison.match in ("exact", "rounding")


def test_the_gap_between_the_two_best(db, tiny):
    evidence = search(db, tiny())
    values = sorted(trial.value for trial in evidence.trials if trial.state == "COMPLETE")
    assert best_gap(evidence) == values[-1] - values[-2]
    lower = dataclasses.replace(evidence, direction="minimize")
    assert best_gap(lower) == values[1] - values[0]


def test_what_cannot_be_trained_again_is_refused(db, tiny):
    settings = tiny()
    study = optuna.create_study(study_name="theirs", storage=db.optuna_storage())
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=1)
    with pytest.raises(RefusedError, match="not made by hpsearch"):
        rerun(db, settings.run, "theirs", 0)
    search(db, settings)
    write_attrs(db, find_study(db, "coarse"), {attributes.STAGE: "check"})
    with pytest.raises(RefusedError, match="of the kind 'check'"):
        rerun(db, settings.run, "coarse", 0)
    plan = plan_coarse(settings, "waiting")
    from hpsearch.stages.opening import open_stage

    open_stage(db, plan, load_images(plan.trial_config, settings.run))
    with pytest.raises(RefusedError, match="has not been trained yet"):
        rerun(db, settings.run, "waiting", 0)
