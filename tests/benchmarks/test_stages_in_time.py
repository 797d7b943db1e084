import time

import numpy as np
import pytest

from benchmarks import stages_in_time
from benchmarks.peers.work import Work
from benchmarks.stages_in_time import Budget, Stage, halved, plain, run_stages
from hpsearch.datasets.embedded import Digits

HOURS = 7200.0  # which no search of these tests takes
BUDGET = Budget(epochs=4, coarse_epochs=24, fine_trials=3)


def digits(folder, **changes):
    """A search of few digits, in ranges where no trial explodes."""
    images = Digits().load_train()
    np.savez(folder / "digits.npz", x_train=images.x[:300], y_train=images.y[:300])
    return Work(
        str(folder / "digits.npz"), 50, "mlp", lr=(1e-3, 1e-1), reg=(1e-5, 1e-2), normalize="channel", scale=1.0,
        init="he", epochs=BUDGET.epochs, num_trials=1000, num_processes=1, **{"seconds": HOURS, **changes},
    )  # fmt: skip


def option(stage, name):
    return stage.words[stage.words.index(name) + 1]


def test_a_third_of_all_epochs_is_coarses_where_one_of_them_is_given_or_none():
    for given in ((None, None), (None, 6), (60, None)):
        budget = Budget.of(20, *given)
        assert budget.fine_trials * 20 == 2 * budget.coarse_epochs
    assert Budget.of(20, None, 6) == Budget(20, 60, 6) == Budget.of(20, 60, None)
    assert Budget.of(20, 200, 20) == Budget(20, 200, 20)


def test_both_ways_train_as_many_epochs():
    budget = Budget(20, 200, 12)
    (coarse, fine), (short, longer) = halved(budget), plain(budget)
    assert int(option(coarse, "--epochs-budget")) == int(option(short, "--trials")) * int(option(short, "--epochs"))
    for stage in (fine, longer):
        assert (option(stage, "--trials"), option(stage, "--epochs")) == ("12", "20")
    assert [option(stage, "--sampler") for stage in (fine, short, longer)] == ["auto", "random", "tpe"]


@pytest.mark.slow
def test_trials_of_both_stages_count_and_find_something_after_all_epochs(tmp_path):
    work = digits(tmp_path)
    with_rungs = run_stages(work, tmp_path / "halved", halved(BUDGET), {})
    of_coarse, of_fine = (
        with_rungs.trials.values[: -BUDGET.fine_trials],
        with_rungs.trials.values[-BUDGET.fine_trials :],
    )
    assert sum(value > 0 for value in of_coarse) >= 1  # went through all rungs
    assert sum(value == 0 for value in of_coarse) > sum(value > 0 for value in of_coarse)
    without = run_stages(work, tmp_path / "plain", plain(BUDGET), {})
    assert without.trials.values[:-3] == [0.0] * BUDGET.coarse_epochs  # an epoch each
    for values in (of_fine, without.trials.values[-3:]):
        assert len(values) == 3
        assert all(value > 0 for value in values)
    for run in (with_rungs, without):
        assert 0 < run.startup < run.trials.ended[-1] - run.began < run.seconds + 1


@pytest.mark.slow
def test_fine_has_what_coarse_leaves_of_the_time_and_is_stopped_then(tmp_path, monkeypatch):
    coarse, _ = plain(BUDGET)
    endless = Stage("fine", ["fine", "--from", "coarse", "--epochs", "1000", "--trials", "1000"])
    run_stage, limits = stages_in_time.run_stage, []

    def long_coarse(work, folder, words, sets, seconds):
        limits.append(seconds)
        if words is endless.words:
            return run_stage(work, folder, words, sets, seconds)
        return run_stage(work, folder, words, sets, None)[0], HOURS - 5

    monkeypatch.setattr(stages_in_time, "run_stage", long_coarse)
    run = run_stages(digits(tmp_path), tmp_path / "search", [coarse, endless], {})
    assert limits == [HOURS, 5]
    assert run.seconds >= HOURS
    assert len(run.trials.values) >= BUDGET.coarse_epochs


def test_no_fine_is_begun_where_coarse_took_all_the_time(tmp_path, monkeypatch):
    begun = []

    def all_of_it(_work, _folder, words, _sets, seconds):
        begun.append(words[0])
        return time.time(), seconds + 0.1

    monkeypatch.setattr(stages_in_time, "run_stage", all_of_it)
    run = run_stages(digits(tmp_path), tmp_path / "search", halved(BUDGET), {})
    assert begun == ["coarse"]
    assert run.trials.values == []  # it had no time to make its study
    assert run.startup == pytest.approx(run.seconds)
