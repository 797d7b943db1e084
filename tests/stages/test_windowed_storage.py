"""Samplers learn from a window of the past; pruners, and what they say, know nothing of it."""

import math

import pytest

from hpsearch.config import FloatRange, StageConfig
from hpsearch.search.stage_run import run_stage
from hpsearch.space import draw_random
from hpsearch.stages import windowed_storage as window
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import TrialRow, read_trials
from hpsearch.worker import trial_source as supply

SPACE = {"lr": FloatRange(1e-6, 1.0, log=True), "reg": FloatRange(1e-6, 1.0, log=True)}


def waiting(number, first=0):
    return [TrialRow(trial_id=i, number=i, state="WAITING") for i in range(first, number)]


def make(sampler, trials, *, windowed=True, seed=0, **settings):
    return Mirror("s", SPACE, StageConfig(trials=trials, sampler=sampler, seed=seed, **settings), waiting(trials),
                  windowed=windowed)  # fmt: skip


def accuracy(params):
    """Best at lr = 10^-2.3 and reg = 10^-4.1, with ripples."""
    lr, reg = math.log10(params["lr"]), math.log10(params["reg"])
    return 1 - 0.02 * (lr + 2.3) ** 2 - 0.01 * (reg + 4.1) ** 2 - 0.03 * (1 - math.cos(3 * (lr + reg + 6.4)))


def search(mirror, num_trials, batch=16):
    """The proposals, in batches as packs make them, and the regret of the best."""
    proposed = []
    for first in range(0, num_trials, batch):
        numbers = range(first, min(num_trials, first + batch))
        proposed += [mirror.propose(number) for number in numbers]
        for number in numbers:
            mirror.finish(number, accuracy(proposed[number]))
    return proposed, 1 - max(accuracy(params) for params in proposed)


def test_the_id_of_a_trial_is_its_number():
    storage = make("tpe", 3).storage
    assert [storage.get_trial(number).number for number in range(3)] == [0, 1, 2]
    assert {trial.state.name for trial in storage.get_all_trials(0)} == {"WAITING"}


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_proposals_are_the_same_as_long_as_the_window_holds_all_that_the_sampler_reads(sampler, monkeypatch):
    """CMA-ES reads a few dozen trials, whatever their number; TPE reads all, which 64 are."""
    monkeypatch.setattr(window, "NUM_NEWEST", 64)
    number = 64 if sampler == "tpe" else 150
    assert search(make(sampler, number), number) == search(make(sampler, number, windowed=False), number)


def test_the_sampler_sees_the_best_the_newest_and_those_that_run(monkeypatch):
    monkeypatch.setattr(window, "NUM_NEWEST", 10)
    mirror = make("tpe", 300)
    for number in range(200):
        mirror.adopt(number, {"lr": 0.1, "reg": 0.1})
        if number == 7:  # takes longer than all others
            continue
        if number % 2:
            mirror.report(number, 1 + number % 5, 0.5)
            mirror.finish(number, None)
        else:
            mirror.finish(number, 1 - number / 1000)
    with mirror.storage.narrowed():
        seen = [trial.number for trial in mirror.study.get_trials()]
    assert seen == sorted({*range(0, 50, 2), 7, *range(190, 200)})
    assert len(mirror.study.get_trials()) == 300  # whoever asks otherwise, as pruners do


def test_pruned_trials_fill_the_place_of_the_best_as_in_tpe(monkeypatch):
    """With fewer complete trials than that, the longest of the pruned ones, and among those the best."""
    monkeypatch.setattr(window, "NUM_NEWEST", 1)
    monkeypatch.setattr(window, "NUM_BEST", 3)
    mirror = make("tpe", 20)
    for number, (step, value) in enumerate([(1, 0.9), (3, 0.1), (3, 0.4), (2, 0.8), (1, math.nan)]):
        mirror.adopt(number, {"lr": 0.1, "reg": 0.1})
        mirror.report(number, step, value)
        mirror.finish(number, None)
    mirror.adopt(5, {"lr": 0.1, "reg": 0.1})
    mirror.finish(5, 0.05)
    mirror.adopt(6, {"lr": 0.1, "reg": 0.1})
    mirror.finish(6, None)
    with mirror.storage.narrowed():
        assert [trial.number for trial in mirror.study.get_trials()] == [1, 2, 5, 6]


@pytest.mark.slow
def test_the_windowed_sampler_finds_as_good_a_best(monkeypatch):
    """With a window of a fifth of what is used, so that it matters within 500 trials; random search is far behind."""
    monkeypatch.setattr(window, "NUM_NEWEST", 100)
    number, seeds = 500, range(3)
    narrow = [search(make("tpe", number, seed=seed), number)[1] for seed in seeds]
    whole = [search(make("tpe", number, seed=seed, windowed=False), number)[1] for seed in seeds]
    drawn = [1 - max(map(accuracy, draw_random(SPACE, number, seed))) for seed in seeds]
    assert narrow != whole  # the window did leave something out
    assert max(narrow) <= max(whole) + 1e-4
    assert max(narrow) < min(drawn) / 5


@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive-halving"])
def test_pruners_say_the_same_with_and_without_a_window(pruner, monkeypatch):
    monkeypatch.setattr(window, "NUM_NEWEST", 4)
    monkeypatch.setattr(window, "NUM_BEST", 2)

    def verdicts(windowed):
        mirror = make("tpe", 60, windowed=windowed, pruner=pruner)
        told = []
        for number in range(60):
            mirror.adopt(number, {"lr": 0.1, "reg": 0.1})
            value = (number * 37 % 60) / 60
            stops = [mirror.report(number, epoch, value + epoch / 100) for epoch in range(1, 10)]
            mirror.finish(number, None if any(stops) else value)
            told.append(stops)
        return told

    told = verdicts(windowed=True)
    assert told == verdicts(windowed=False)
    assert any(any(stops) for stops in told)


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_restarted_mirror_has_the_same_window(pruner, monkeypatch):
    """Without a pruner, trials outside the window are not even read in."""
    monkeypatch.setattr(window, "NUM_NEWEST", 6)
    monkeypatch.setattr(window, "NUM_BEST", 3)
    settings = StageConfig(trials=50, sampler="tpe", pruner=pruner)
    first, rows = Mirror("s", SPACE, settings, waiting(50)), []
    for number in range(40):
        params, value = {"lr": 0.1, "reg": 10.0 ** -(1 + number % 5)}, number * 7 % 40 / 40
        first.adopt(number, params)
        first.report(number, 1, value)
        first.finish(number, value)
        rows.append(TrialRow(number, number, "COMPLETE", value, params, SPACE, {1: value}))
    second = Mirror("s", SPACE, settings, [*rows, *waiting(50, 40)])
    seen = []
    for mirror in (first, second):
        with mirror.storage.narrowed():
            seen.append([(trial.number, trial.value, trial.params) for trial in mirror.study.get_trials()])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 8  # trial 34 is among the best and the newest
    assert second.first_open == 40
    known = [trial for trial in second.study.get_trials() if trial.state.is_finished()]
    assert len(known) == (8 if pruner == "none" else 40)


def test_a_worker_reads_what_is_new_not_the_whole_study(db, tiny, monkeypatch):
    num_read = []

    def counted(*arguments, **options):
        rows = read_trials(*arguments, **options)
        num_read.append(len(rows))
        return rows

    monkeypatch.setattr(supply, "read_trials", counted)
    settings = tiny(coarse__sampler="tpe", coarse__trials=30, coarse__epochs=1, run__width=5)
    plan = plan_coarse(settings)
    evidence = run_stage(db, plan, settings.run, checks=False)
    assert evidence.num_finished == 30
    assert len(num_read) == 30 / 5
    assert max(num_read) <= 2 * 5
