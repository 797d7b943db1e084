"""Optuna's pruners from a study file, wrapped ones too; and none that stops trials hides a better value."""

import tomllib
from types import SimpleNamespace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noisy_search import EPOCHS, assert_kept, noisy, run

from hpsearch.analysis import attributes
from hpsearch.config import FloatRange, StageConfig, load_settings
from hpsearch.config.metric import ACCURACY as ACCURACY_METRIC
from hpsearch.errors import ConfigError
from hpsearch.results import EpochResult
from hpsearch.search.rerun import rerun
from hpsearch.stages.listener import Listener
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.pruners import make_pruner
from hpsearch.storage import Lease, TrialRow
from hpsearch.training import PackReport
from hpsearch.training.early_stopping import stopped_early
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.pack_run import PackRun
from hpsearch.worker.stopping import Stop


@pytest.mark.parametrize(
    ("options", "patience", "wrapped"),
    [
        ("", 3, None),
        ('pruner_options = { patience = 5, min_delta = 0.01, wrapped_pruner = "none" }', 5, None),
        ('pruner_options = { wrapped_pruner = "median" }', 3, optuna.pruners.MedianPruner),
        ('pruner_options = { wrapped_pruner = "HyperbandPruner" }', 3, optuna.pruners.HyperbandPruner),
        ('pruner_options.wrapped_pruner = { name = "percentile", percentile = 25.0 }', 3,
         optuna.pruners.PercentilePruner),
        ('pruner_options.wrapped_pruner = { name = "patient", wrapped_pruner = "median" }', 3,
         optuna.pruners.PatientPruner),
    ],
)  # fmt: skip
def test_a_wrapped_pruner_in_a_study_file(options, patience, wrapped):
    stored = tomllib.loads(f'[coarse]\npruner = "patient"\n{options}')
    pruner = make_pruner(load_settings(stored=stored).study.coarse)
    assert isinstance(pruner, optuna.pruners.PatientPruner)
    assert pruner._patience == patience
    assert pruner._min_delta == stored["coarse"].get("pruner_options", {}).get("min_delta", 0.0)
    assert type(pruner._wrapped_pruner) is (wrapped or type(None))


def test_options_of_the_wrapped_one_from_the_command_line():
    sets = ["coarse.pruner_options.patience=2", "coarse.pruner_options.wrapped_pruner=median"]
    settings = load_settings(sets=sets, flags={"coarse.pruner": "patient"}).study.coarse
    assert settings.pruner_options == {"patience": 2, "wrapped_pruner": "median"}
    assert isinstance(make_pruner(settings)._wrapped_pruner, optuna.pruners.MedianPruner)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 2.5}, ["pruner_options = {'patience': 2.5", "whole number", "Allowed: wrapped_pruner, patience"]),
        ({"patience": -1}, ["pruner_options", "-1"]),
        ({"patience": True}, ["True is not a whole number"]),
        ({"min_delta": "much"}, ["pruner_options", "much"]),
        ({"warmup": 1}, ["warmup", "Allowed: wrapped_pruner, patience, min_delta"]),
        ({"wrapped_pruner": "best"}, ["pruner_options.wrapped_pruner = 'best'", "Allowed: none, hyperband, median"]),
        ({"wrapped_pruner": 3}, ["pruner_options.wrapped_pruner = 3", 'name = "median"']),
        ({"wrapped_pruner": {"n_startup_trials": 3}}, ["pruner_options.wrapped_pruner = {'n_startup_trials': 3}"]),
        ({"wrapped_pruner": {"name": "best"}}, ["pruner_options.wrapped_pruner.name = 'best'"]),
        ({"wrapped_pruner": {"name": "median", "x": 1}}, ["pruner_options.wrapped_pruner = {'x': 1}", "median"]),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ConfigError) as caught:
        make_pruner(StageConfig(pruner="patient", pruner_options=options))
    assert len(str(caught.value).splitlines()) == 2
    for word in words:
        assert word in str(caught.value)


SPACE = {"lr": FloatRange(1e-3, 1.0, log=True)}


class PlannedPack:
    """Trials with given validation accuracies; no net is trained."""

    refills = False

    def __init__(self, curves, patience):
        self.curves, self.numbers = curves, tuple(range(len(curves)))
        self.epoch, self.num_epochs = 0, len(curves[0])
        self.config, self.metric = SimpleNamespace(train=SimpleNamespace(patience=patience)), ACCURACY_METRIC

    @property
    def done(self):
        return self.epoch >= self.num_epochs or not self.numbers

    def run_epoch(self):
        self.epoch += 1
        values = {number: self.curves[number][self.epoch - 1] for number in self.numbers}
        results = [EpochResult(n, self.epoch, 1.0, 1.0, value, 1.0, value, 1e-3, 0.1) for n, value in values.items()]
        return PackReport(results, [])

    def drop(self, numbers):
        leaving = set(numbers)
        assert leaving <= set(self.numbers)
        self.numbers = tuple(number for number in self.numbers if number not in leaving)


class Stops(optuna.pruners.BasePruner):
    """Stops trials at given epochs."""

    def __init__(self, at):
        self.at = at

    def prune(self, study, trial):
        return self.at[trial.number] == trial.last_step


class Outcomes:
    """What a writer would bring into the database."""

    def __init__(self):
        self.ended = []

    def record(self, rows):
        pass

    def finish(self, outcomes):
        self.ended += outcomes


def train(curves, stops, patience):
    """What becomes of trials with these curves, and what was kept of them while they were in the pack."""
    rows = [TrialRow(n, n, "WAITING", None, {"lr": 0.1}, SPACE, {}) for n in range(len(curves))]
    mirror = Mirror("s", SPACE, StageConfig(trials=len(curves)), rows)
    mirror.study.pruner = Stops(stops)
    pack, writer, kept = PlannedPack(curves, patience), Outcomes(), []
    held = {number: HeldTrial(Lease(number, number, {"lr": 0.1}, 1)) for number in pack.numbers}
    for number in held:
        mirror.adopt(number, {"lr": 0.1})

    def keep(trials):
        assert set(trials) <= set(pack.numbers)
        kept.extend(trials)
        return {}

    run = PackRun(
        pack, held, pruner="stops", keep=keep, writer=writer, checkpointer=None, checkpoint_seconds=1e9, mirror=mirror,
        listener=Listener(), stop=Stop(), after_epoch=lambda: None,
    )  # fmt: skip
    run.endings.complete(run.run())
    assert not held
    return writer.ended, kept, mirror


ACCURACY = st.integers(0, 5).map(lambda correct: correct / 5)
NUM_EPOCHS = 4
TRIALS = st.lists(
    st.tuples(st.lists(ACCURACY, min_size=NUM_EPOCHS, max_size=NUM_EPOCHS), st.integers(1, NUM_EPOCHS + 1)),
    min_size=1,
    max_size=4,
)


@given(TRIALS, st.sampled_from([None, 1, 2]))
def test_whoever_stops_when_the_best_value_of_all_is_a_complete_trial_s(trials, patience):
    curves, stops = [curve for curve, _ in trials], [stop for _, stop in trials]
    ended, kept, mirror = train(curves, stops, patience)
    assert sorted(outcome.lease.number for outcome in ended) == list(range(len(curves)))  # the budget is exact
    best_of_all = 0.0
    for outcome in ended:
        number = outcome.lease.number
        early = (n for n in range(1, NUM_EPOCHS) if patience and stopped_early(curves[number][:n], patience))
        last = min(stops[number], next(early, NUM_EPOCHS), NUM_EPOCHS)
        seen = curves[number][:last]
        assert outcome.value == max(seen)  # that of its best epoch, however it ended
        assert outcome.attrs[attributes.BEST_EPOCH] == seen.index(max(seen)) + 1
        assert outcome.attrs.get(attributes.EPOCH) == (last if last < NUM_EPOCHS else None)
        best_of_all = max(best_of_all, outcome.value)
    complete = {outcome.lease.number: outcome.value for outcome in ended if outcome.state == "COMPLETE"}
    assert max(complete.values()) == best_of_all == mirror.study.best_value == mirror.best_value
    assert set(kept) == set(complete)


def test_a_trial_that_the_pruner_stops_after_the_best_value_is_the_best_for_us_and_for_optuna(db):
    """Patience of one epoch and no smoothing stops right after a peak; the first pack has no COMPLETE trial at all."""
    settings = noisy(run__width=4, coarse__pruner="patient", coarse__pruner_options={"patience": 0}, coarse__trials=16)
    evidence = run(db, settings)
    assert [trial.number for trial in evidence.trials] == list(range(16))
    stopped = [trial for trial in evidence.trials if trial.attrs.get(attributes.REASON) == "patient"]
    assert {trial.state for trial in stopped} == {"COMPLETE", "PRUNED"}
    best = evidence.best
    assert best in stopped
    assert max(t.value for t in evidence.trials if t.attrs.get(attributes.REASON) != "exploded") == best.value
    assert all(trial.value == max(trial.intermediate.values()) for trial in stopped)
    study = optuna.load_study(study_name="coarse", storage=db.optuna_storage())
    assert (study.best_trial.number, study.best_value) == (best.number, best.value)
    assert best.attrs[attributes.EPOCH] == max(best.intermediate) < EPOCHS
    assert_kept(settings, best)
    again = rerun(db, settings.run, "coarse", best.number, num_seeds=1)
    assert [point.epoch for point in again.trainings[0].results] == list(best.intermediate)
