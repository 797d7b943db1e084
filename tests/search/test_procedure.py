"""The whole procedure on small synthetic images, in a real SQLite database."""

import re

import numpy as np
import pytest

import hpsearch
from hpsearch.analysis.decision import Limits
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.study_trials import read_study
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search.procedure import ProcedureListener, run_procedure
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, list_studies, open_database, read_trials
from hpsearch.training.images import load_images


class Recorder(ProcedureListener):
    def __init__(self, interrupt_at=None):
        self.names, self.checks, self.decisions, self.trials = [], [], [], []
        self.interrupt_at = interrupt_at

    def planned(self, plan):
        self.names.append(plan.name)

    def checked(self, report):
        self.checks.append(report)

    def stage_decided(self, summary, decision):
        self.decisions.append((summary.study, decision))

    def trial_finished(self, event):
        self.trials.append(event)
        if len(self.trials) == self.interrupt_at:
            raise KeyboardInterrupt


def values(procedure):
    return [[(trial.params, trial.value) for trial in stage.trials] for stage in procedure.stages]


@pytest.mark.parametrize(
    ("changes", "limits", "words"),
    [
        ({"fine__epochs_budget": 9}, Limits(seconds=60), "fine.epochs_budget = 9 is exact"),
        ({"coarse__epochs_budget": 9}, Limits(seconds=60), "coarse.epochs_budget = 9 is exact"),
        ({"fine__pruner": "nonsense"}, Limits(), "pruner = 'nonsense'"),
        (
            {"fine__halving": "stop", "fine__continue_top": 1, "coarse__keep_top": 1},
            Limits(),
            "fine.continue_top = 1",
        ),
    ],
)
def test_what_its_fine_stages_cannot_be_is_refused_before_the_coarse_one(db, tiny, changes, limits, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        run_procedure(db, tiny(**changes), limits=limits)
    assert len(str(refused.value).splitlines()) == 2
    assert list_studies(db) == []


def test_of_coarse_alone_the_fine_stage_need_not_be_possible(db, tiny):
    (stage,) = run_procedure(db, tiny(fine__pruner="nonsense", coarse__trials=3), limits=Limits(max_stages=1)).stages
    assert len(stage.trials) == 3


def test_it_goes_from_coarse_to_fine_until_a_decision_ends_it(db, tiny):
    listener = Recorder()
    procedure = run_procedure(db, tiny(), limits=Limits(max_stages=3), listener=listener)
    names = [stage.name for stage in procedure.stages]
    assert names == ["coarse", "fine", "fine-2"][: len(names)] == listener.names
    assert [study for study, _ in listener.decisions] == names
    assert all(decision.go_on for decision in procedure.decisions[:-1])
    assert procedure.ending.ending in ("settled", "stages")
    assert procedure.best.value == max(stage.best.value for stage in procedure.stages)
    assert procedure.best in procedure.best_stage.trials
    assert [summary.source for summary in procedure.summaries] == [None, *names[:-1]]


@pytest.mark.slow
def test_it_is_the_commands_by_hand(db, tiny, tmp_path):
    settings = tiny()
    procedure = run_procedure(db, settings, limits=Limits(max_stages=2))
    other = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    coarse, data = plan_coarse(settings), load_images(plan_coarse(settings).trial_config, settings.run)
    by_hand = [run_stage(other, coarse, settings.run, images=data, checks=False)]
    by_hand.append(run_stage(other, plan_fine(by_hand[0], settings), settings.run, images=data, checks=False))
    for evidence, stage in zip(by_hand, procedure.stages, strict=True):
        assert evidence.study.attrs["hpsearch.fingerprint"] == stage.evidence.study.attrs["hpsearch.fingerprint"]
        assert [trial.value for trial in evidence.trials] == [trial.value for trial in stage.trials]


def test_the_same_call_goes_on_wherever_it_was_stopped(db, tiny, tmp_path):
    settings = tiny(run__width=4, fine__sampler="random")
    whole = run_procedure(db, settings, limits=Limits(max_stages=2))
    for interrupt_at in (1, 12, 15):
        other = open_database(f"sqlite:///{tmp_path}/stopped-{interrupt_at}.db", create=True)
        with pytest.raises(KeyboardInterrupt):
            run_procedure(other, settings, limits=Limits(max_stages=2), listener=Recorder(interrupt_at))
        listener = Recorder()
        resumed = run_procedure(other, settings, limits=Limits(max_stages=2), listener=listener)
        assert len(listener.trials) < 18
        assert values(resumed) == values(whole)
        assert resumed.decisions == whole.decisions


def test_finished_stages_are_not_repeated_and_more_stages_can_be_asked_for(db, tiny):
    first = run_procedure(db, tiny(), limits=Limits(max_stages=1))
    assert first.ending.ending == "stages"
    listener = Recorder()
    again = run_procedure(db, tiny(), limits=Limits(max_stages=1), listener=listener)
    assert listener.trials == []
    assert again.decisions == first.decisions
    more = run_procedure(db, tiny(), limits=Limits(max_stages=2), listener=listener)
    assert [stage.name for stage in more.stages] == ["coarse", "fine"]
    assert len(listener.trials) == 6


@pytest.mark.slow
def test_several_runs_live_in_one_storage(db, tiny):
    run_procedure(db, tiny(), name="a", limits=Limits(max_stages=2))
    run_procedure(db, tiny(train__batch_size=30), name="b", limits=Limits(max_stages=2))
    assert [study.name for study in list_studies(db)] == ["a-coarse", "a-fine", "b-coarse", "b-fine"]


def test_another_config_under_the_same_name_is_refused(db, tiny):
    run_procedure(db, tiny(), limits=Limits(max_stages=1))
    with pytest.raises(RefusedError, match=r"train\.batch_size: 20 -> 30"):
        run_procedure(db, tiny(train__batch_size=30), limits=Limits(max_stages=1))


def test_ranges_of_flags_are_those_of_the_coarse_stage_alone(db, tiny):
    settings = tiny(space=["lr=log(1e-3,1e-1)", "reg=none"])
    procedure = run_procedure(db, settings, limits=Limits(max_stages=2))
    coarse, fine = (stage.config.space for stage in procedure.stages)
    assert coarse.keys() == fine.keys() == {"lr"}
    assert coarse["lr"] != fine["lr"]


def test_the_time_leaves_a_stage_that_the_same_call_finishes(db, tiny):
    procedure = run_procedure(db, tiny(run__width=4), limits=Limits(seconds=1e-9, max_stages=2))
    assert procedure.ending.ending == "time"
    assert [stage.name for stage in procedure.stages] == ["coarse"]
    states = {trial.state for trial in read_trials(db, find_study(db, "coarse"))}
    assert "WAITING" in states
    assert "RUNNING" not in states
    done = run_procedure(db, tiny(run__width=4), limits=Limits(seconds=600, max_stages=2))
    assert done.ending.ending != "time"
    assert read_study(db, "coarse").num_finished == 8  # the fewest that a stage has, which it was made with


def test_time_enough_is_no_budget(db, tiny):
    listener = Recorder()
    run_procedure(db, tiny(), limits=Limits(seconds=600, max_stages=1), listener=listener)
    assert len(listener.trials) == 12


def test_a_coarse_stage_that_explodes_whole_is_refused_after_it_was_told(db, tiny):
    listener = Recorder()
    with pytest.raises(RefusedError, match="no finished trial"):
        run_procedure(db, tiny(space=["lr=log(1e6,1e8)", "reg=none"], coarse__trials=4), listener=listener)
    assert listener.decisions[0][1].ending == "nothing"


def test_a_narrow_int_range_does_not_go_on_for_ever(db, tiny):
    """Of one or two images in a batch, the best is always on a boundary. The noise leaves chance accuracy."""
    settings = tiny(
        space=["lr=log(1e-3,1e-2)", "reg=none", "batch_size=int(1,2)"],
        data__synthetic__noise=4.0,
        coarse__epochs=1,
        fine__epochs=1,
    )
    procedure = run_procedure(db, settings, limits=Limits(gain=0.9, max_stages=12))
    assert procedure.ending.ending == "settled"
    assert len(procedure.stages) > 2


def test_a_net_that_cannot_learn_is_refused_before_anything_is_written(db, tiny):
    listener = Recorder()
    dead = tiny(model__init="small:1e-30", model__hidden=[6, 6, 6])
    with pytest.raises(RefusedError, match="--skip-checks"):
        run_procedure(db, dead, limits=Limits(max_stages=1), listener=listener)
    assert list_studies(db) == []
    assert not listener.checks[0].ok
    run_procedure(db, dead, limits=Limits(max_stages=1), checks=False)
    assert [study.name for study in list_studies(db)] == ["coarse"]


def test_images_that_carry_nothing_end_after_the_coarse_stage(db, tiny):
    draw = np.random.default_rng(0)
    np.savez("noise.npz", x_train=draw.normal(size=(400, 16)).astype(np.float32), y_train=np.arange(400) % 4)
    settings = tiny(data__source="npz:noise.npz", data__val=120)
    procedure = run_procedure(db, settings, limits=Limits(max_stages=3), checks=False)
    assert [stage.name for stage in procedure.stages] == ["coarse"]
    assert procedure.ending.ending == "luck"
    advice = advise(db, procedure.stages[0].evidence)
    assert "no better than chance (0.25 ± 0.04 on 120 images)" in advice.reason
    assert advice.command == "hpsearch data show npz:noise.npz --set data.val=120"


def test_checks_are_made_once(db, tiny):
    listener = Recorder()
    for _ in range(2):
        run_procedure(db, tiny(), limits=Limits(max_stages=2), listener=listener)
    assert [report.ok for report in listener.checks] == [True]


def test_run_in_python(tmp_path):
    study = {
        "data": {"source": "synthetic", "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9}},
        "model": {"hidden": [6]},
        "train": {"batch_size": 20},
        "run": {"device": "cpu", "threads": 1},
    }
    sets = {"coarse.trials": 8, "coarse.epochs": 2, "fine.trials": 4, "fine.epochs": 2}
    procedure = hpsearch.run(study, name="n", storage=f"sqlite:///{tmp_path}/s.db", sets=sets, max_stages=2)
    assert isinstance(procedure, hpsearch.Procedure)
    assert [(stage.name, len(stage.trials)) for stage in procedure.stages] == [("n-coarse", 8), ("n-fine", 4)]
