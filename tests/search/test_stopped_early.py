"""train.patience: trials that do not get better end COMPLETE with their best epoch, and everybody copes with it."""

import csv
import io
import sys

import optuna
import pytest
from noisy_search import EPOCHS, Interrupting, noisy, run

import hpsearch
from hpsearch.analysis import attributes
from hpsearch.analysis.diagnosis import diagnose_trials
from hpsearch.analysis.export import study_as_csv, study_as_dict
from hpsearch.analysis.snapshots import Watcher
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.cli.output import print_stage
from hpsearch.cli.progress import TrialBar, TrialLines
from hpsearch.errors import ConfigError
from hpsearch.fleet.stage_follower import StageFollower
from hpsearch.search.final_measurement import final_test
from hpsearch.search.listener import SearchListener
from hpsearch.search.rerun import rerun
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, open_database, read_epochs
from hpsearch.training.early_stopping import stopped_early

PATIENCE = 2


class Recorder(SearchListener):
    """All that a listener hears, to be told to others."""

    def __init__(self):
        self.events = []

    def stage_started(self, event):
        self.events.append(("stage_started", event))

    def epoch_finished(self, num_trials):
        self.events.append(("epoch_finished", num_trials))

    def trial_finished(self, event):
        self.events.append(("trial_finished", event))

    def tell(self, listener):
        for name, event in self.events:
            getattr(listener, name)(event)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Two stages of the same trials, with and without patience; tests only read them."""
    folder = tmp_path_factory.mktemp("searched")
    db = open_database(f"sqlite:///{folder}/studies.db", create=True)
    settings, recorder = noisy(train__patience=PATIENCE, run__artifact_dir=str(folder)), Recorder()
    run(db, settings, recorder)
    run(db, noisy(run__artifact_dir=str(folder)), name="whole")
    yield db, settings, recorder
    db.close()


def early_of(evidence):
    return [t for t in evidence.trials if t.attrs.get(attributes.REASON) == attributes.STOPPED_EARLY]


def ending_of(trial):
    """All but where its weights are, what they give to the last digit, and its config."""
    others = ("structure", attributes.WEIGHTS, attributes.MEASURES)
    attrs = {name: value for name, value in trial.attrs.items() if name not in others}
    return trial.state, trial.value, trial.intermediate, attrs


def test_they_end_complete_where_the_rule_says(searched):
    db, _, _ = searched
    evidence, whole = read_study(db, "coarse"), read_study(db, "whole")
    for trial, unstopped in zip(evidence.trials, whole.trials, strict=True):
        if trial.attrs.get(attributes.REASON) == attributes.EXPLODED:
            assert ending_of(trial) == ending_of(unstopped)
            continue
        curve = list(unstopped.intermediate.values())
        ends = (n for n in range(1, EPOCHS) if stopped_early(curve[:n], PATIENCE))
        last = next(ends, EPOCHS)
        assert list(trial.intermediate.values()) == curve[:last]
        assert (trial.state, trial.value) == ("COMPLETE", max(curve[:last]))
        assert trial.attrs[attributes.BEST_EPOCH] == curve.index(trial.value) + 1
        assert trial.attrs[attributes.LAST_VALUE] == curve[last - 1]
        assert trial.attrs.get(attributes.EPOCH) == (last if last < EPOCHS else None)
    early, others = early_of(evidence), [t for t in evidence.trials if attributes.EPOCH not in t.attrs]
    assert early and others  # noqa: PT018
    assert len({trial.attrs[attributes.EPOCH] for trial in early}) > 1


def test_a_search_that_goes_on_stops_the_same_trials(db, searched):
    settings = noisy(train__patience=PATIENCE, run__checkpoint_seconds=0, run__width=4)
    for num_epochs in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            run(db, settings, Interrupting(num_epochs))
    evidence = run(db, settings)
    assert list(map(ending_of, evidence.trials)) == list(map(ending_of, read_study(searched[0], "coarse").trials))


def test_trained_again_they_stop_at_the_same_epoch(searched):
    db, settings, _ = searched
    trial = early_of(read_study(db, "coarse"))[0]
    again = rerun(db, settings.run, "coarse", trial.number, num_seeds=3)
    assert [point.epoch for point in again.trainings[0].results] == list(trial.intermediate)
    assert max(again.comparison.differences.values()) < 1e-9
    for training in again.trainings[1:]:  # other seeds stop where their own curves say
        curve = [point.val_acc for point in training.results]
        assert len(curve) == EPOCHS or stopped_early(curve, PATIENCE)
        assert not any(stopped_early(curve[:n], PATIENCE) for n in range(len(curve)))
    result = final_test(db, settings.run, "coarse", trial.number)
    assert result.trained_epochs == (trial.attrs[attributes.EPOCH],)
    assert result.measured_epochs == (trial.attrs[attributes.BEST_EPOCH],)
    both = final_test(db, settings.run, "coarse", trial.number, train_on_val=True)
    assert both.trained_epochs == both.measured_epochs == (trial.attrs[attributes.BEST_EPOCH],)


def test_an_objective_stops_them_too(searched):
    db, settings, _ = searched
    trials = [trial for trial in read_study(db, "coarse").trials if trial.state == "COMPLETE"][:5]
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        study.enqueue_trial(trial.params)
    config = settings.study.model_copy(update={"train": plan_coarse(settings).trial_config.train})
    study.optimize(hpsearch.Objective(config, run=settings.run), n_trials=len(trials))
    for found, trial in zip(study.trials, trials, strict=True):
        assert found.intermediate_values == pytest.approx(trial.intermediate)
        assert found.state == optuna.trial.TrialState.COMPLETE
        names = (attributes.REASON, attributes.EPOCH, attributes.BEST_EPOCH)
        assert [found.user_attrs.get(name) for name in names] == [trial.attrs.get(name) for name in names]


def test_whoever_tells_of_a_stage_copes_with_them(searched, capsys):
    db, _, recorder = searched
    evidence = read_study(db, "coarse")
    early = early_of(evidence)
    epochs = read_epochs(db, evidence.study)

    bar, followed = TrialBar(), Recorder()
    recorder.tell(bar)
    [task] = bar.progress.tasks
    assert task.completed == task.total == 12 * EPOCHS
    follower = StageFollower(db, evidence.study, followed)
    follower.begin()
    follower.known.clear()
    follower.look()
    told = {event.number: event.epoch for name, event in followed.events if name == "trial_finished"}
    assert all(told[trial.number] == trial.attrs[attributes.EPOCH] for trial in early)

    recorder.tell(TrialLines(sys.stdout))
    lines = capsys.readouterr().out.splitlines()
    assert sum(f"stopped early in epoch {early[0].attrs[attributes.EPOCH]}, (" in line for line in lines) >= 1
    assert sum("stopped early" in line for line in lines) == len(early)

    summary = stage_summary(evidence, epochs=epochs)
    assert summary.num_stopped_early == summary.as_dict()["stopped_early"] == len(early)
    print_stage(summary)
    assert f"{len(early)} stopped early" in capsys.readouterr().out
    assert diagnose_trials(evidence.trials, epochs, 3).keys() == {trial.number for trial in evidence.trials}

    snapshot = Watcher(db, find_study(db, "coarse")).look()
    assert snapshot.done
    assert snapshot.num_finished == 12

    rows = {int(row["number"]): row for row in csv.DictReader(io.StringIO(study_as_csv(evidence)))}
    exported = {row["number"]: row for row in study_as_dict(evidence, epochs)["trials"]}
    for trial in early:
        assert (rows[trial.number]["reason"], rows[trial.number]["state"]) == ("stopped early", "COMPLETE")
        assert len(exported[trial.number]["epochs"]) == trial.attrs[attributes.EPOCH]


def test_no_patience_is_no_part_of_a_search():
    """So that searches of before there was any stay the same."""
    without = noisy()
    assert "patience" not in without.study.plain()["train"]
    assert noisy(train__patience="none").study == without.study
    some = noisy(train__patience=3, coarse__set={"train.patience": "none"})
    assert plan_coarse(some).trial_config.train.patience is None
    assert some.study.plain()["train"]["patience"] == 3
    assert plan_coarse(noisy(train__patience=3)).fingerprint("") != plan_coarse(without).fingerprint("")


@pytest.mark.parametrize("value", [0, -1, 1.5, "some"])
def test_a_wrong_patience_is_named(value):
    with pytest.raises(ConfigError, match=r"train\.patience"):
        noisy(train__patience=value)
