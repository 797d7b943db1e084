"""The callback for Hugging Face's Trainer, in the page's example: what it reports, how a trial ends, how it goes on."""

import shutil
from types import SimpleNamespace

import pytest

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # the Trainer's own, on pinned memory and the like

from transformers import TrainerControl, TrainerState  # noqa: E402

from hpsearch.adapters.transformers import ReportCallback, last_kept  # noqa: E402
from hpsearch.errors import HpsearchError  # noqa: E402
from hpsearch.programs.calling import TrialEnded, call, refuse_other_forms  # noqa: E402
from hpsearch.programs.messages import Task  # noqa: E402

PARAMS = {"lr": 0.01, "width": 16}


def run(objective, folder, report):
    folder.mkdir(exist_ok=True)
    refuse_other_forms("train:objective", objective)
    return call("train:objective", objective, Task(0, PARAMS, epochs=3, checkpoint=str(folder)), report)


def test_a_trial_that_was_ended_goes_on_from_its_checkpoint_as_if_it_had_not_been(tmp_path, example, ending):
    objective, whole = example("transformers")["objective"], ending()
    value = run(objective, tmp_path / "whole", whole)
    assert [epoch for epoch, _ in whole.heard] == [1, 2, 3]
    assert value == max(value for _, value in whole.heard) > 0.6
    first, second = ending(2, TrialEnded("the trial is to end: stopped")), ending()
    halves = tmp_path / "halves"
    with pytest.raises(TrialEnded):
        run(objective, halves, first)
    assert [epoch for epoch, _ in first.heard] == [1, 2]
    kept = last_kept(halves)
    shutil.copytree(kept, halves / "checkpoint-999", ignore=shutil.ignore_patterns("trainer_state.json"))
    assert last_kept(halves) == kept  # one that was being written is none
    assert run(objective, halves, second) == value
    assert first.heard + second.heard == whole.heard


def test_evaluations_outside_training_do_not_count_and_those_by_steps_are_counted(ending):
    report = ending()
    callback, control = ReportCallback(report, "loss"), TrainerControl()
    steps = SimpleNamespace(eval_strategy="steps", eval_steps=20)
    state = TrainerState(epoch=0.4, global_step=40)
    callback.on_evaluate(steps, state, control, metrics={"eval_loss": 1.0})
    callback.on_train_begin(steps, TrainerState(), control)
    callback.on_evaluate(steps, state, control, metrics={"eval_loss": 0.5})
    assert report.heard == [(2, 0.5)]
    with pytest.raises(HpsearchError, match=r"monitor = 'eval_loss' is not measured; .*\nMeasured: eval_acc\."):
        callback.on_evaluate(steps, state, control, metrics={"eval_acc": 0.5})
