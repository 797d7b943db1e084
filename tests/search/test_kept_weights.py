"""The weights that a stage keeps are those of the epoch whose value it reports: plain PyTorch measures that value."""

import json
from pathlib import Path

import pytest
from noisy_search import Interrupting, assert_kept, noisy, run

from hpsearch.analysis import attributes
from hpsearch.search.listener import SearchListener
from hpsearch.storage import find_study, open_database
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.state import PackState
from hpsearch.worker.best_weights import load_portrait


def assert_all_kept(db, settings, evidence):
    complete = [trial for trial in evidence.trials if trial.state == "COMPLETE"]
    for trial in complete:
        assert_kept(settings, trial)
    early = [trial for trial in complete if trial.attrs[attributes.LAST_VALUE] < trial.value]
    assert len(early) >= 3  # where the weights after the last epoch would not do
    portrait = load_portrait(find_study(db, "coarse"))
    best = evidence.best
    assert (portrait.number, portrait.value) == (best.number, best.value)
    assert portrait.epoch == best.attrs[attributes.BEST_EPOCH]
    kept = find_study(db, "coarse").attrs[attributes.PORTRAIT]
    assert json.loads(json.dumps(kept))["epoch"] == portrait.epoch


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_in_a_pack_from_which_trials_explode_and_stop_early(db, engine):
    settings = noisy(run__engine=engine, train__patience=2)
    evidence = run(db, settings)
    reasons = [trial.attrs.get(attributes.REASON) for trial in evidence.trials]
    assert {attributes.EXPLODED, attributes.STOPPED_EARLY, None} == set(reasons)
    assert_all_kept(db, settings, evidence)


@pytest.mark.slow
def test_they_are_in_the_checkpoints(db, tmp_path):
    settings = noisy(run__checkpoint_seconds=0, run__width=4, train__patience=3)
    whole = run(open_database(f"sqlite:///{tmp_path}/whole.db", create=True), settings)
    with pytest.raises(KeyboardInterrupt):
        run(db, settings, Interrupting(5))
    begun = []

    class Began(SearchListener):
        def note(self, text):
            begun.append(text)

    evidence = run(db, settings, Began())
    assert any("epoch 5" in note for note in begun)  # it did go on, with best epochs behind it
    assert [(t.state, t.value, t.intermediate) for t in evidence.trials] == [
        (t.state, t.value, t.intermediate) for t in whole.trials
    ]
    assert_all_kept(db, settings, evidence)


def test_a_checkpoint_of_before_they_were_kept_is_passed_over(db, monkeypatch):
    settings = noisy(run__checkpoint_seconds=0)
    everything = PackState.everything

    def older(self):
        return {name: tensor for name, tensor in everything(self).items() if not name.startswith("best/")}

    with monkeypatch.context() as patch:
        patch.setattr(PackState, "everything", older)
        with pytest.raises(KeyboardInterrupt):
            run(db, settings, Interrupting(6))
    assert list(Path("studies").rglob("5.safetensors"))
    assert_all_kept(db, settings, run(db, settings))


@pytest.mark.parametrize(("keep", "keeps"), [("none", False), ("best", True)])
def test_the_copy_is_there_only_where_weights_are_kept(db, monkeypatch, keep, keeps):
    seen, original = [], Pack.run_epoch

    def spy(self):
        report = original(self)
        seen.append(bool(self._state.nets.best))
        return report

    monkeypatch.setattr(Pack, "run_epoch", spy)
    run(db, noisy(run__keep=keep))
    assert set(seen) == {keeps}
