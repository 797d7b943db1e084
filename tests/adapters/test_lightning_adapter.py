"""The callback for Lightning, in the page's example: what it reports, how a trial ends, how it goes on."""

import pytest

pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, on workers of loaders and the like

import torch  # noqa: E402
from lightning.pytorch import Callback, Trainer  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from hpsearch.adapters.lightning import ReportCallback  # noqa: E402
from hpsearch.errors import HpsearchError  # noqa: E402
from hpsearch.programs.calling import TrialEnded, call, refuse_other_forms  # noqa: E402
from hpsearch.programs.messages import Task  # noqa: E402

PARAMS = {"lr": 0.05, "width": 16}


def run(objective, folder, report):
    refuse_other_forms("train:objective", objective)
    return call("train:objective", objective, Task(0, PARAMS, epochs=3, checkpoint=str(folder)), report)


def test_a_trial_that_was_ended_goes_on_from_its_checkpoint_as_if_it_had_not_been(tmp_path, example, ending):
    objective, whole = example("lightning")["objective"], ending()
    value = run(objective, tmp_path / "whole", whole)
    assert [epoch for epoch, _ in whole.heard] == [1, 2, 3]
    assert value == max(value for _, value in whole.heard) > 0.6
    first, second = ending(3, TrialEnded("the trial is to end: stopped")), ending()
    with pytest.raises(TrialEnded):
        run(objective, tmp_path / "halves", first)
    assert [path.name for path in (tmp_path / "halves").iterdir()] == ["last.ckpt"]
    assert run(objective, tmp_path / "halves", second) == value
    assert first.heard[:2] + second.heard == whole.heard  # the third epoch was not kept, so it is trained again


def test_the_trainer_tears_down_and_neither_sanity_check_nor_validation_alone_is_reported(tmp_path, example, ending):
    names = example("lightning")
    heard = []

    class Hears(Callback):
        def on_exception(self, trainer, pl_module, exception):
            heard.append(type(exception))

        def teardown(self, trainer, pl_module, stage):
            heard.append(stage)

    batches = DataLoader(TensorDataset(torch.rand(8, 64), torch.zeros(8, dtype=torch.int64)), 4)
    report = ending(1, TrialEnded("the trial is to end: pruned"))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=5, callbacks=[ReportCallback(report), Hears()], enable_checkpointing=False, **options)
    net = names["Net"](0.1, 4)
    trainer.validate(net, batches, verbose=False)
    assert report.heard == []
    with pytest.raises(TrialEnded):
        trainer.fit(net, batches, batches)
    assert len(report.heard) == 1
    assert heard[-1] is TrialEnded
    assert trainer.interrupted


def test_a_value_that_is_not_logged_is_named_with_those_that_are(tmp_path, example, ending):
    names = example("lightning")
    batches = DataLoader(TensorDataset(torch.rand(8, 64), torch.zeros(8, dtype=torch.int64)), 4)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(
        max_epochs=1, callbacks=[ReportCallback(ending(), "val_f1")], enable_checkpointing=False, **options
    )
    with pytest.raises(HpsearchError, match=r"monitor = 'val_f1' is not measured; .*\nMeasured: val_acc\."):
        trainer.fit(names["Net"](0.1, 4), batches, batches)
