"""Stages with rungs and budgets in epochs, trained: exact budgets, and curves that are those of plain training."""

import re

import pytest
from noisy_search import EPOCHS, Interrupting, noisy, run
from recorded_steps import rehearsed

from hpsearch.errors import ConfigError
from hpsearch.search import stage_run
from hpsearch.search.listener import SearchListener
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.repeat_plan import RepeatPlan
from hpsearch.stages.validation import validate_proposals
from hpsearch.storage import open_database, read_epochs
from hpsearch.training import Pack
from hpsearch.training.checkpoints import Checkpoints
from hpsearch.worker.checkpoint_writer import Checkpointer
from hpsearch.worker.rung_source import RungSource
from hpsearch.worker.worker import PoisonedDeviceError

__all__ = ["rehearsed"]

BUDGET = 34


def halved(form, budget=BUDGET, **other):
    """In the engine in which no trial knows of its neighbours, down to the last bit."""
    changes = {"run__engine": "loop", "run__width": 4, "run__keep": "best", **other}
    return noisy(coarse__halving=form, coarse__epochs_budget=budget, **changes)


def curves(db, evidence):
    """What was measured in each epoch, by number."""
    return read_epochs(db, evidence.study)


def num_epochs(evidence):
    return sum(len(trial.intermediate) for trial in evidence.trials)


def plain_curves(db, evidence, **other):
    """The same trials, each of them trained at one go."""
    settings = halved("none", None, coarse__trials=len(evidence.trials), **other)
    plain = run(db, settings, name="plain")
    assert [trial.params for trial in plain.trials] == [trial.params for trial in evidence.trials]
    return curves(db, plain)


def assert_parts_of(db, evidence, whole):
    """Each trial has what plain training gives, bit for bit, as far as it went."""
    for number, results in curves(db, evidence).items():
        assert results == whole[number][: len(results)]


def assert_well_ended(evidence):
    assert {trial.state for trial in evidence.trials} <= {"COMPLETE", "PRUNED"}
    best = max(trial.value for trial in evidence.trials)
    assert max(t.value for t in evidence.trials if t.state == "COMPLETE") == best
    assert [trial.number for trial in evidence.trials] == list(range(len(evidence.trials)))


class Place:
    """A database of its own, and its artifacts."""

    def __init__(self, folder):
        self.artifacts = folder / "artifacts"
        self.db = open_database(f"sqlite:///{folder}/studies.db", create=True)

    def run(self, form, budget=BUDGET, listener=None, **other):
        return run(self.db, halved(form, budget, run__artifact_dir=str(self.artifacts), **other), listener)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Plain training of the first trials, made once."""
    place = Place(tmp_path_factory.mktemp("plain"))
    return curves(place.db, place.run("none", None, coarse__trials=24))


@pytest.fixture(scope="module")
def plain_in_folds(tmp_path_factory):
    """The same for trials that are trained on two folds."""
    place = Place(tmp_path_factory.mktemp("plain-in-folds"))
    return curves(place.db, place.run("none", None, data__folds=2))


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """A stage with promotions, and what was heard of it; tests only read it."""
    place = Place(tmp_path_factory.mktemp("promoted"))
    place.heard = Counting()
    place.evidence = place.run("promote", listener=place.heard)
    return place


def assert_exact_and_plain(db, evidence, plain):
    assert num_epochs(evidence) == BUDGET
    assert_well_ended(evidence)
    assert_parts_of(db, evidence, plain)


def lengths_at_rungs(evidence):
    return {len(trial.intermediate) for trial in evidence.trials if trial.attrs.get("reason") == "halving"}


@pytest.mark.parametrize("form", ["none", "stop"])
def test_a_budget_is_exact_and_curves_are_those_of_plain_training(db, plain, form):
    evidence = run(db, halved(form))
    assert_exact_and_plain(db, evidence, plain)
    assert lengths_at_rungs(evidence) == (set() if form == "none" else {1, 3})


def test_so_they_are_where_trials_are_promoted(promoted, plain):
    assert_exact_and_plain(promoted.db, promoted.evidence, plain)
    assert lengths_at_rungs(promoted.evidence) == {1, 3}


@pytest.mark.parametrize("form", ["stop", "promote"])
def test_without_a_budget_all_trials_begin(db, plain, form):
    evidence = run(db, halved(form, None))
    assert len(evidence.trials) == 12
    assert_well_ended(evidence)
    assert_parts_of(db, evidence, plain)
    assert any(list(trial.intermediate) == list(range(1, EPOCHS + 1)) for trial in evidence.trials)
    assert num_epochs(evidence) < 12 * EPOCHS / 2


class Counting(SearchListener):
    def __init__(self):
        self.num_epochs, self.ended, self.notes = 0, [], []

    def note(self, text):
        self.notes.append(text)

    def epoch_finished(self, num_trials):
        self.num_epochs += num_trials

    def trial_finished(self, event):
        self.ended.append(event.number)


def test_promoted_trials_go_on_and_no_epoch_is_trained_twice(promoted):
    assert promoted.heard.num_epochs == BUDGET
    assert sorted(promoted.heard.ended) == [trial.number for trial in promoted.evidence.trials]
    assert not [note for note in promoted.heard.notes if "resume" in note]  # a promotion is no interruption


@pytest.mark.parametrize(("form", "after"), [("stop", 3), ("promote", 8)])
def test_a_search_that_is_stopped_and_begun_again_spends_the_same(db, plain, form, after):
    with pytest.raises(KeyboardInterrupt):
        run(db, halved(form), Interrupting(after))
    counting = Counting()
    evidence = run(db, halved(form), counting)
    assert_exact_and_plain(db, evidence, plain)
    if form == "promote":  # a trial that was interrupted is said to resume
        assert [note for note in counting.notes if "resume" in note]


def test_a_finished_stage_is_found_again(promoted):
    again = promoted.run("promote")
    assert [trial.intermediate for trial in again.trials] == [trial.intermediate for trial in promoted.evidence.trials]


def test_checkpoints_of_trials_that_wait_are_gone_at_the_end(promoted):
    assert not list(promoted.artifacts.rglob("checkpoints/*/*/*"))


def test_checkpoints_that_a_killed_worker_left_are_gone_at_the_end(db, tmp_path, monkeypatch):
    """Killed after the end of a trial was written, and before its checkpoints were removed."""
    folder = tmp_path / "artifacts"
    with monkeypatch.context() as killed:
        killed.setattr(Checkpointer, "remove", lambda self, number: None)
        killed.setattr(stage_run, "_drop_checkpoints", lambda *_: None)
        evidence = run(db, halved("promote", 9, run__artifact_dir=str(folder)))
    assert list(folder.rglob("checkpoints/*/*/*.json"))
    again = run(db, halved("promote", 9, run__artifact_dir=str(folder)))
    assert [trial.intermediate for trial in again.trials] == [trial.intermediate for trial in evidence.trials]
    assert not list(folder.rglob("checkpoints/*/*"))


def test_a_small_budget_leaves_one_complete_trial_with_its_weights(db):
    evidence = run(db, halved("promote", 2, run__keep="all"))
    (best,) = [trial for trial in evidence.trials if trial.state == "COMPLETE"]
    assert best.attrs["weights"]
    assert num_epochs(evidence) == 2


@pytest.mark.parametrize("form", ["stop", "promote"])
def test_with_folds(db, plain_in_folds, form):
    evidence = run(db, halved(form, 16, data__folds=2))
    assert num_epochs(evidence) == 16
    assert_well_ended(evidence)
    assert_parts_of(db, evidence, plain_in_folds)


def test_a_schedule_goes_by_all_epochs_of_a_trial(db):
    """What is stopped at a rung has seen the first part of the schedule, and what goes on sees the rest."""
    changes = {"train__lr_schedule": "cosine"}
    evidence = run(db, halved("promote", 20, **changes))
    assert num_epochs(evidence) == 20
    assert any(len(trial.intermediate) > 3 for trial in evidence.trials)  # beyond two rungs
    assert_parts_of(db, evidence, plain_curves(db, evidence, **changes))


@pytest.mark.parametrize("form", ["stop", "promote"])
def test_a_sampler_learns_from_what_was_stopped_or_waits(db, form):
    evidence = run(db, halved(form, 40, coarse__sampler="tpe"))
    assert num_epochs(evidence) == 40
    assert_well_ended(evidence)


def test_a_promoted_trial_repeats_the_best(db):
    evidence = run(db, halved("promote", None, coarse__repeat_best=1, coarse__repeat_seeds=2))
    assert_well_ended(evidence)


def test_patience_ends_trials_between_rungs(db):
    evidence = run(db, halved("promote", 20, train__patience=2))
    assert num_epochs(evidence) == 20
    assert_parts_of(db, evidence, plain_curves(db, evidence, train__patience=2))


@pytest.mark.parametrize("form", ["stop", "promote"])
def test_free_slots_refill_at_once(db, plain, monkeypatch, rehearsed, form):
    monkeypatch.setattr(stage_run, "recorder_for", lambda _device: None)
    packs = []
    original = Pack.run_epoch

    def watched(self):
        packs.append((id(self), len(self.numbers)))
        return original(self)

    monkeypatch.setattr(Pack, "run_epoch", watched)
    evidence = run(db, halved(form, run__engine="graph"))
    assert num_epochs(evidence) == BUDGET
    assert_well_ended(evidence)
    assert len({name for name, _ in packs}) <= 3  # one goes on and on; the last trials may need another
    assert_close(curves(db, evidence), plain)


def test_packs_of_other_widths_differ_by_rounding_alone(db, plain):
    evidence = run(db, halved("promote", run__engine="fused"))
    assert num_epochs(evidence) == BUDGET
    assert_close(curves(db, evidence), plain)


def assert_close(mine, whole):
    for number, results in mine.items():
        assert [r.cost for r in results] == pytest.approx([r.cost for r in whole[number][: len(results)]], rel=1e-9)


def test_a_lost_checkpoint_costs_epochs_but_not_the_budget(db, plain, monkeypatch):
    monkeypatch.setattr(Checkpoints, "load", lambda self, number: None)
    evidence = run(db, halved("promote"))
    assert num_epochs(evidence) == BUDGET
    assert_parts_of(db, evidence, plain)


def test_a_state_that_cannot_be_read_at_a_rung_leaves_no_trial_in_nobodys_hands(db, plain, monkeypatch):
    """As where a device has no memory left for it: the trials were let go, and the stage waited for them for ever."""
    original, seen = Pack.snapshot, []

    def failing(self, number):
        seen.append(number)
        if len(seen) == 2:
            raise RuntimeError("no memory for a copy")
        return original(self, number)

    wait, waits = RungSource.wait_for_others, []

    def patiently(self):
        waits.append(1)
        assert len(waits) < 20, "it waits for others, and there are none"
        return wait(self)

    monkeypatch.setattr(Pack, "snapshot", failing)
    monkeypatch.setattr(RungSource, "wait_for_others", patiently)
    evidence = run(db, halved("promote"))
    assert len(seen) > 2
    assert_exact_and_plain(db, evidence, plain)


def test_promotions_are_no_failed_attempts(db, monkeypatch):
    """A trial may poison two processes; one that was promoted twice has not."""
    original, seen = Pack.run_epoch, []

    def poisoned(self):
        if self.epoch == 1 and not seen:  # of trials that were promoted
            seen.append(self.numbers)
            raise RuntimeError("CUDA error: device-side assert triggered")
        return original(self)

    monkeypatch.setattr(Pack, "run_epoch", poisoned)
    with pytest.raises(PoisonedDeviceError):
        run(db, halved("promote"))
    evidence = run(db, halved("promote"))
    assert seen
    assert all(trial.state != "FAIL" for trial in evidence.trials)
    assert num_epochs(evidence) == BUDGET


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"coarse__halving": "stop"}, "coarse.halving = 'stop'"),
        ({"coarse__epochs_budget": 9}, "coarse.epochs_budget = 9"),
    ],
)
def test_a_comparison_is_refused(given, said):
    plan = RepeatPlan("compare", "compare", noisy(**given).study)
    with pytest.raises(ConfigError, match=rf"^{re.escape(said)}: a comparison") as refused:
        validate_proposals(plan)
    assert len(str(refused.value).splitlines()) == 2


def test_trials_that_begin_with_epochs_of_another_stage_are_refused(db):
    settings = noisy(fine__halving="stop", fine__continue_top=2)
    plan = StagePlan("fine", "fine", settings.study, "coarse")
    with pytest.raises(ConfigError, match=r"fine\.continue_top = 2") as refused:
        validate_proposals(plan)
    assert len(str(refused.value).splitlines()) == 2


def test_a_budget_in_epochs_that_may_be_too_many_trials_for_gp_is_named():
    plan = StagePlan("fine", "fine", noisy(fine__sampler="gp", fine__epochs_budget=600).study, "coarse")
    with pytest.raises(ConfigError, match=r"^fine\.epochs_budget = 600 is too many"):
        validate_proposals(plan)
