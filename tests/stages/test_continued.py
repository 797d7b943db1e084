"""Which trials of a stage go on in a fine one, and what is refused."""

from dataclasses import replace

import pytest

from hpsearch.analysis.decision import Limits
from hpsearch.analysis.origins import Origin, origin_of
from hpsearch.analysis.records import StageRecord
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search.procedure import first_plan
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.continued import handed_on, refuse_other_images
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.opening import stored_plan
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database

STUDY = {
    "data": {
        "source": "synthetic",
        "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9, "noise": 3.0},
    },
    "model": {"name": "mlp", "hidden": [6]},
    "train": {"batch_size": 20},
    "space": {"lr": {"log": [1e-3, 1.0]}},
    "coarse": {"trials": 8, "epochs": 2, "keep_top": 3},
    "fine": {"trials": 5, "epochs": 4, "sampler": "random"},
}


def settings_of(folder, spaces=(), **flags):
    own = {"run.device": "cpu", "run.threads": 1, "run.artifact_dir": str(folder), "fine.continue_top": 2}
    flags = {key.replace("__", "."): value for key, value in flags.items()}
    return load_settings(stored=STUDY, flags={**own, **flags}, spaces=spaces)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """A stage that keeps three states, and what it was made from; tests only read it."""
    folder = tmp_path_factory.mktemp("coarse")
    db = open_database(f"sqlite:///{folder}/studies.db", create=True)
    settings = settings_of(folder)
    yield run_stage(db, plan_coarse(settings), settings.run, checks=False), folder
    db.close()


def planned(coarse, *spaces, **flags):
    evidence, folder = coarse
    return plan_fine(evidence, settings_of(folder, spaces, **flags))


def best_of(coarse):
    return sorted(coarse[0].trials, key=lambda trial: (-trial.value, trial.number))


def test_the_best_go_on_after_what_is_enqueued_and_are_of_the_budget(coarse):
    plan = planned(coarse, fine__enqueue=[{"lr": 0.1}])
    best = best_of(coarse)[:2]
    assert [each.origin.trial for each in plan.continued] == [trial.number for trial in best]
    drawn = plan.drawn()
    assert drawn[:3] == [{"lr": 0.1}, *(trial.params for trial in best)]
    assert len(drawn) == plan.num_trials == 5
    without = planned(coarse, fine__continue_top=0, fine__enqueue=[{"lr": 0.1}])
    assert drawn[3:] == without.drawn()[3:]
    assert "of coarse go on from epoch 2" in " ".join(plan.notes)


def test_without_the_key_a_plan_is_what_it_was(coarse):
    plan = planned(coarse, fine__continue_top=0)
    assert plan.continued == ()
    assert "continued" not in plan.provenance()
    assert "continue_top" not in plan.identity("")["fine"]


def test_a_grid_has_the_points_that_are_left(coarse):
    plan = planned(coarse, fine__sampler="grid")
    assert len(plan.drawn()) == plan.num_trials == 5


def test_fewer_epochs_or_trials_for_a_time_let_fewer_go_on(coarse):
    def cut_to(**budget):
        fine = plan.config.fine.model_copy(update=budget)
        return replace(plan, config=plan.config.model_copy(update={"fine": fine}))

    plan = planned(coarse)
    assert cut_to(epochs=2).continued == ()
    assert cut_to(epochs=3).continued == plan.continued
    assert cut_to(trials=1).continued == plan.continued[:1]


def test_those_outside_the_ranges_do_not(coarse):
    first, second, *_ = best_of(coarse)
    low, high = sorted((0.99 * second.params["lr"], 1.01 * second.params["lr"]))
    plan = planned(coarse, f"lr=log({low},{high})")
    assert first.number not in [each.origin.trial for each in plan.continued]
    assert second.number in [each.origin.trial for each in plan.continued]
    assert "of fine.continue_top = 2 go on: no more of the 3 best" in " ".join(plan.notes)


def test_where_the_epochs_are_no_more_none_goes_on_and_it_is_said(coarse):
    plan = planned(coarse, fine__epochs=2)
    assert plan.continued == ()
    assert "coarse trained 2 epochs already" in " ".join(plan.notes)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"fine__continue_top": 4},
            "keeps the states of 3 trials (--keep-top was 3).\nKeep them: hpsearch coarse",
        ),
        ({"train__lr_schedule": "cosine"}, "train.lr_schedule = 'cosine' depends on the number of epochs"),
        ({"train__lr_schedule": "one-cycle"}, "train.lr_schedule = 'one-cycle' depends on the number of epochs"),
        ({"train__lr_schedule": "linear"}, "train.lr_schedule = 'linear' depends on the number of epochs"),
        ({"fine__set": {"train.batch_size": 10}}, "train.batch_size: 20 -> 10"),
        ({"train__seed": 7}, "train.seed: 0 -> 7"),
        ({"model__hidden": [7]}, "model.hidden: [6] -> [7]"),
        ({"train__ema": 0.9}, "train.ema: - -> 0.9"),
        ({"data__augment": ["hflip"]}, "data.augment"),
    ],
)
def test_what_would_not_be_one_long_training_is_refused_in_two_lines(coarse, flags, said):
    with pytest.raises(RefusedError) as refusal:
        planned(coarse, **flags)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("fine.continue_top")
    assert str(refusal.value).count("\n") == 1


def test_a_hyperparameter_that_one_stage_searches_alone_is_refused(coarse):
    with pytest.raises(RefusedError, match="reg is searched in one of them alone"):
        planned(coarse, "reg=log(1e-4,1e-2)")


def test_a_schedule_that_is_searched_must_have_no_horizon(coarse):
    with pytest.raises(RefusedError, match="'cosine' depends on the number of epochs"):
        planned(coarse, "train.lr_schedule=choice(constant,cosine)")


def test_a_budget_has_room_for_them(coarse):
    with pytest.raises(ConfigError, match="Allowed: at most 1, or more trials"):
        planned(coarse, fine__trials=2, fine__enqueue=[{"lr": 0.1}])


def test_a_whole_procedure_keeps_what_its_fine_stage_needs(coarse):
    with pytest.raises(ConfigError, match=r"coarse.keep_top = 1.\nAllowed: coarse.keep_top = 2 or more"):
        first_plan(settings_of(coarse[1], coarse__keep_top=1), None, Limits())
    assert first_plan(settings_of(coarse[1]), None, Limits()).name == "coarse"


@pytest.mark.parametrize("key", ["coarse.keep_top", "fine.keep_top", "fine.continue_top"])
def test_an_objective_of_the_users_keeps_its_state_itself(key):
    stored = {"objective": {"function": "train:objective"}, "space": {"x": {"uniform": [0.0, 1.0]}}}
    with pytest.raises(ConfigError) as refusal:
        load_settings(stored=stored, flags={key: 2})
    assert f"{key} = 2: the state of a trial of an [objective] is its own.\nAllowed: {key} = 0" in str(refusal.value)


@pytest.fixture(scope="module")
def fine(coarse):
    evidence, folder = coarse
    db = open_database(f"sqlite:///{folder}/studies.db")
    settings = settings_of(folder, fine__sampler="tpe")
    yield run_stage(db, plan_fine(evidence, settings), settings.run), db, settings
    db.close()


def test_each_says_where_it_comes_from_and_the_budget_is_exact(coarse, fine):
    trials = fine[0].trials
    best = best_of(coarse)[:2]
    folder = origin_of(trials[0].attrs).states
    assert [origin_of(trial.attrs) for trial in trials[:2]] == [
        Origin("coarse", trial.number, 2, folder) for trial in best
    ]
    assert str(origin_of(trials[0].attrs)) == f"continued from coarse trial {best[0].number} at epoch 2"
    assert [origin_of(trial.attrs) for trial in trials[2:]] == [None] * 3
    assert len(trials) == 5


def test_their_curves_begin_as_they_were(coarse, fine):
    for trial, before in zip(fine[0].trials, best_of(coarse)[:2], strict=False):
        assert trial.params == before.params
        assert sorted(trial.intermediate) == [1, 2, 3, 4]
        assert {epoch: trial.intermediate[epoch] for epoch in (1, 2)} == before.intermediate


def test_a_worker_that_joins_knows_them(fine):
    assert [each.origin for each in stored_plan(fine[0].study).continued] == [
        origin_of(trial.attrs) for trial in fine[0].trials[:2]
    ]


def test_the_sampler_is_told_of_each_once(coarse, fine):
    going_on = {origin_of(trial.attrs).trial for trial in fine[0].trials[:2]}
    space = stored_plan(fine[0].study).space["lr"]
    inside = [t for t in coarse[0].trials if space.low <= t.params["lr"] <= space.high and t.number not in going_on]
    assert fine[0].record.learning.get("earlier", {}).get("coarse", 0) == len(inside)


def test_the_same_command_goes_on_with_the_same_trials(coarse, fine):
    again = run_stage(fine[1], plan_fine(coarse[0], fine[2]), fine[2].run)
    assert [trial.value for trial in again.trials] == [trial.value for trial in fine[0].trials]


def test_states_are_lost_and_all_is_the_same(coarse, fine, tmp_path):
    _, db, settings = fine
    elsewhere = settings.run.model_copy(update={"artifact_dir": str(tmp_path)})
    plan = plan_fine(coarse[0], settings, "elsewhere")
    found = run_stage(db, plan, elsewhere)
    assert [t.intermediate for t in found.trials[:2]] == [t.intermediate for t in fine[0].trials[:2]]


def test_other_images_are_refused(coarse, fine):
    _, db, settings = fine
    plan = plan_fine(coarse[0], settings, "other")
    refuse_other_images(db, plan, coarse[0].record.images.fingerprint)
    with pytest.raises(RefusedError, match=r"'coarse' was trained on other images \(\w+, and here feed\).\nAllowed"):
        refuse_other_images(db, plan, "feed")


@pytest.mark.parametrize(
    ("kind", "keep_top", "continue_top"), [("fine", 0, 0), ("fine", 2, 0), ("fine", 3, 3), ("coarse", 0, 3)]
)
def test_a_fine_stage_hands_on_no_wish_for_states_that_it_has_not_kept(kind, keep_top, continue_top):
    record = StageRecord(kind=kind, config={"fine": {"continue_top": 3, "keep_top": keep_top}, "space": {}})
    assert handed_on(record) == {"fine": {"continue_top": continue_top, "keep_top": keep_top}, "space": {}}


def test_what_holds_no_study_file_hands_on_none():
    assert handed_on(StageRecord()) is None
