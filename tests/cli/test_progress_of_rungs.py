"""Progress of stages that count by epochs, and not by trials times epochs."""

import io

from hpsearch.cli.progress import TrialBar, TrialLines
from hpsearch.stages.listener import StageStarted, TrialFinished


def started(num_finished=0, work=(0, 40), num_trials=None):
    return StageStarted("coarse", num_trials, num_finished, 0, 0, 9, None, "fused", 4, "cpu", work=work)


def ended(number, epoch, num_finished):
    return TrialFinished(number, "PRUNED", 0.5, {"lr": 0.1}, "halving", epoch, num_finished, None)


def test_a_bar_ends_with_the_budget():
    bar = TrialBar()
    bar.stage_started(started(work=(10, 40)))
    (task,) = bar.progress.tasks
    assert (task.completed, task.total) == (10, 40)
    bar.epoch_finished(20)
    bar.trial_finished(ended(3, 1, 1))  # of 9 epochs; none is missing
    assert task.completed == 30
    assert task.fields["standing"].startswith("1 ended")
    bar.epoch_finished(10)
    assert task.completed == task.total


def test_lines_say_what_is_known(capsys):
    out = io.StringIO()
    lines = TrialLines(out)
    lines.stage_started(started(num_finished=2, work=(12, 40)))
    lines.trial_finished(ended(3, 1, 3))
    assert out.getvalue() == "pruned by halving in epoch 1, lr: 1.000000e-01, (3)\n"
    assert capsys.readouterr().err == "note: coarse: 12 of 40 epochs are trained; going on\n"


def test_trials_are_counted_where_all_of_them_begin():
    bar = TrialBar()
    bar.stage_started(started(work=(0, 63), num_trials=30))
    (task,) = bar.progress.tasks
    assert task.total == 63
    assert task.fields["standing"].startswith("0/30")
