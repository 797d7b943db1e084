"""Packs that refill: where trials end before others, the next ones take their places, and nothing else changes."""

import pytest
import torch
from noisy_search import noisy
from recorded_steps import rehearsed

from hpsearch.search import stage_run
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import read_epochs
from hpsearch.training import Pack

__all__ = ["rehearsed"]


@pytest.fixture(autouse=True)
def recording_on_any_device(monkeypatch, rehearsed):
    monkeypatch.setattr(stage_run, "recorder_for", lambda _device: None)


@pytest.fixture
def widths(monkeypatch):
    """How many trials were in the pack in each epoch."""
    seen = []
    original = Pack.run_epoch

    def watched(self):
        seen.append(len(self.numbers))
        return original(self)

    monkeypatch.setattr(Pack, "run_epoch", watched)
    return seen


class Interrupting(SearchListener):
    def __init__(self, num_epochs):
        self.left = num_epochs

    def epoch_finished(self, num_trials):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def search(db, engine, name="coarse", listener=None, **changes):
    settings = noisy(run__engine=engine, run__width=4, **changes)
    return run_stage(db, plan_coarse(settings, name=name), settings.run, listener=listener, checks=False)


def endings(evidence):
    return {t.number: (t.state, t.attrs.get("hpsearch:reason"), list(t.intermediate)) for t in evidence.trials}


def expect_alike(mine, other):
    assert endings(mine) == endings(other)
    for own, alone in zip(mine.trials, other.trials, strict=True):
        assert own.params == alone.params
        assert own.intermediate == pytest.approx(alone.intermediate, rel=1e-9)
        assert own.value == pytest.approx(alone.value, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"train__patience": 2}, {}], ids=["patience", "all epochs"])
def test_each_trial_gives_what_it_gives_without(db, tmp_path, widths, changes):
    changes["run__artifact_dir"] = str(tmp_path)
    loop = search(db, "loop", "loop", **changes)
    shrunk = list(widths)
    del widths[:]
    graph = search(db, "graph", "graph", **changes)
    expect_alike(graph, loop)
    assert sum(widths) == sum(shrunk)  # epochs of trials
    assert len(widths) <= len(shrunk)
    if "train__patience" in changes:
        assert len(widths) < len(shrunk)  # the places were taken
    written = read_epochs(db, graph.study)
    assert all(len(written[t.number]) == len(t.intermediate) for t in graph.trials if t.state == "COMPLETE")


def test_a_pruner_stops_trials_at_their_own_epochs(db, tmp_path, widths):
    evidence = search(db, "graph", coarse__pruner="successivehalving", run__artifact_dir=str(tmp_path))
    states = [trial.state for trial in evidence.trials]
    assert "PRUNED" in states
    assert set(states) <= {"PRUNED", "COMPLETE"}
    assert all(trial.intermediate for trial in evidence.trials)
    assert max(widths) == 4


def test_an_interruption_loses_nothing(db, tmp_path):
    changes = {"train__patience": 2, "run__artifact_dir": str(tmp_path)}
    whole = search(db, "graph", "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        search(db, "graph", "cut", Interrupting(4), **changes)
    expect_alike(search(db, "graph", "cut", **changes), whole)


def test_out_of_memory_goes_on_with_those_that_are_there(db, tmp_path, monkeypatch):
    """Later than at the first epoch, with trials that came later, at other epochs: checkpoints are of both."""
    changes = {"train__patience": 2, "run__artifact_dir": str(tmp_path), "run__checkpoint_seconds": 1e-6}
    whole = search(db, "graph", "whole", **changes)
    original, left = Pack.run_epoch, [5]

    def limited(self):
        left[0] -= 1
        if left[0] < 0 and len(self.numbers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self)

    monkeypatch.setattr(Pack, "run_epoch", limited)
    expect_alike(search(db, "graph", "halved", **changes), whole)
