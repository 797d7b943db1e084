"""Snapshots of one training: they are the states that the search went through, and are averaged beside its best one."""

import numpy as np
import pytest
import torch

from hpsearch.analysis.kept_ensembles import members_table
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.trial_records import trial_record
from hpsearch.cli.ensemble import next_words
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.results import TrialSpec
from hpsearch.search.ensemble import make_ensemble
from hpsearch.search.ensemble_answers import EnsembleListener
from hpsearch.search.ensemble_folder import write_ensemble
from hpsearch.search.ensemble_snapshots import cut_short
from hpsearch.search.stage_run import run_stage
from hpsearch.search.stored_trials import images_of, stored_trial
from hpsearch.search.trained_ensemble import load_ensemble
from hpsearch.search.trained_net import load_net
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study
from hpsearch.training import Pack
from hpsearch.training.class_scores import class_scores

KEYS = {
    "data__synthetic__noise": 2.0,
    "coarse__trials": 4,
    "coarse__epochs": 7,
    "train__lr_schedule": "sgdr",
    "train__lr_period": 2,
    "train__lr_period_factor": 1,
}
ENDS = [2, 4, 6]


@pytest.fixture
def search(db, tiny):
    def run(name="coarse", space=("lr=log(1e-2,0.3)", "reg=none"), **keys):
        settings = tiny(**{**KEYS, "run__keep": "all", **keys}, space=list(space))
        return settings, run_stage(db, plan_coarse(settings, name), settings.run, checks=False)

    return run


def ranked(evidence):
    complete = [t for t in evidence.trials if t.state == "COMPLETE"]
    return [t.number for t in sorted(complete, key=lambda t: (-t.value, t.number))]


def states_of_the_search(settings, evidence, number, engine):
    """Of a trial after each epoch, trained beside all others as the search did it."""
    stored = stored_trial(evidence, number)
    specs = [TrialSpec(trial.number, trial.params) for trial in evidence.trials]
    pack = Pack(stored.config, images_of(stored, settings.run), specs, engine=engine)
    states = {}
    while not pack.done:
        pack.run_epoch()
        states[pack.epoch] = pack.state(number, "last")
    return states


@pytest.mark.parametrize("engine", ["loop", "fused"])
def test_snapshots_are_the_states_that_the_search_went_through(db, search, engine):
    settings, evidence = search(run__engine=engine)
    number = ranked(evidence)[0]
    states = states_of_the_search(settings, evidence, number, engine)
    best_epoch = trial_record(evidence.trials[number]).best_epoch
    trained = []
    hears = EnsembleListener(trained=lambda wanted, _: trained.append(wanted))
    result = make_ensemble(db, settings.run, ["coarse"], snapshots=True, listener=hears)
    assert len(trained) == 1
    assert sorted({each.member.epoch for each in result.members}) == sorted({*ENDS, best_epoch})
    for each in result.members:
        for name, tensor in each.member.net.state.items():
            expected = states[each.member.epoch][name]
            # By itself a trial is rounded as in any pack of the engine loop, but not of others.
            assert torch.equal(tensor, expected) if engine == "loop" else torch.allclose(tensor, expected, atol=1e-5)
    kept = load_net(evidence, settings.run, number)
    [best] = [each for each in result.members if each.member.epoch == best_epoch]
    assert all(torch.equal(best.member.net.state[name], tensor) for name, tensor in kept.state.items())
    # The mean of the snapshots beside the best state of all.
    stored = stored_trial(evidence, number)
    data = images_of(stored, settings.run)
    said = {n: class_scores(stored.config.model, s, data.x_val_NCHW, 3).double().softmax(1) for n, s in states.items()}
    mean = torch.stack([said[epoch] for epoch in ENDS]).mean(0)
    assert result.val.value == pytest.approx((mean.argmax(1) == data.y_val_N).double().mean().item())
    assert result.val.single == pytest.approx(evidence.best.value)
    assert result.best.member.epoch == best_epoch  # also where another state is as good
    weights = {each.member.epoch: each.weight for each in result.members}
    assert weights == pytest.approx({best_epoch: 0.0} | dict.fromkeys(ENDS, 1 / 3))
    # All of it is kept, and trained once.
    again = make_ensemble(db, settings.run, ["coarse"], snapshots=True, kept_only=True)
    assert again.val == result.val
    for net, each in zip(load_ensemble(db, "coarse", settings.run).nets, result.chosen, strict=True):
        assert all(torch.equal(net.state[name], tensor) for name, tensor in each.member.net.state.items())


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["best", "all"])
def test_a_snapshot_at_the_best_epoch_is_the_net_that_is_kept(db, search, keep):
    """Whether it was there before or is trained now; its file is not written twice."""
    settings, evidence = search(run__keep=keep, run__engine="loop", coarse__epochs=6, coarse__trials=8)
    kept = [number for number in ranked(evidence) if trial_record(evidence.trials[number]).best_epoch in ENDS]
    _, other = search("other", run__engine="loop", coarse__epochs=6, coarse__trials=8)
    [number] = kept[:1] if keep == "all" else kept[1:2]
    result = make_ensemble(db, settings.run, ["coarse"], number=number, snapshots=True)
    assert sorted(each.member.epoch for each in result.members) == ENDS
    assert len({each.member.path for each in result.members}) == 3
    assert all(each.weight == pytest.approx(1 / 3) for each in result.members)
    net = load_net(other, settings.run, number)
    state = result.best.member.net.state
    assert result.best.member.epoch == trial_record(other.trials[number]).best_epoch
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state.items())
    if keep == "all":
        assert result.best.member.path == load_path(evidence, number)


def load_path(evidence, number):
    return trial_record(evidence.trials[number]).weights


def test_seeds_top_and_greedy_of_snapshots(db, search, tmp_path):
    settings, evidence = search(run__keep="best")
    seeds = make_ensemble(db, settings.run, ["coarse"], snapshots=True, num_seeds=2, test=True)
    number = evidence.best.number
    own = [(each.member.wanted.seed, each.member.epoch) for each in seeds.chosen]
    assert sorted(own) == [(seed, epoch) for seed in (0, 1) for epoch in ENDS]
    assert seeds.test.difference.num_images == 9
    trainings = stage_record(find_study(db, "coarse")).trainings
    assert [(t.number, t.seed, sorted(t.snapshots)) for t in trainings] == [(number, 0, ENDS), (number, 1, ENDS)]
    # The other seed by itself is there already.
    assert make_ensemble(db, settings.run, ["coarse"], num_seeds=2, kept_only=True).val.difference.num_images == 18
    greedy = make_ensemble(db, settings.run, ["coarse"], top=2, snapshots=True, greedy=True)
    assert {each.member.wanted.stored.trial.number for each in greedy.members} == set(ranked(evidence)[:2])
    assert greedy.val.value >= greedy.val.single  # best epochs are among what it chooses from
    write_ensemble(seeds, tmp_path)
    about = (tmp_path / "ensemble.toml").read_text()
    assert about.startswith("# Ensemble of 6 snapshots of coarse")
    assert "snapshots = true" in about
    columns, rows = members_table([each.kept() for each in seeds.members], "val_acc")
    assert columns == ("study", "trial", "seed", "epoch", "val_acc", "weight")
    assert len(set(rows)) == len(rows)


def test_where_nothing_is_kept_they_are_measured_alone(db, search):
    settings, _ = search(run__keep="none")
    result = make_ensemble(db, settings.run, ["coarse"], snapshots=True)
    assert all(each.member.path is None for each in result.members)
    assert not stage_record(find_study(db, "coarse")).trainings
    assert next_words(result, settings.run)[1][-1:] in ([], ["--ensemble"])
    with pytest.raises(RefusedError, match="no snapshots of 'coarse' are kept, so --kept leaves no net"):
        make_ensemble(db, settings.run, ["coarse"], snapshots=True, kept_only=True)


def test_a_snapshot_that_is_gone_is_trained_again(db, search):
    settings, _ = search()
    first = make_ensemble(db, settings.run, ["coarse"], snapshots=True)
    [lost, *_] = [each for each in first.chosen if each.value != first.val.single or each is not first.best]
    lost.member.path.unlink()
    with pytest.raises(RefusedError, match=r"no snapshots of 'coarse' are kept"):
        make_ensemble(db, settings.run, ["coarse"], snapshots=True, kept_only=True)
    again = make_ensemble(db, settings.run, ["coarse"], snapshots=True)
    assert again.val.value == first.val.value
    assert len(stage_record(find_study(db, "coarse")).trainings) == 1


def test_epochs_behind_the_last_end_have_no_snapshot(db, search):
    _, evidence = search()
    assert cut_short(stored_trial(evidence, 0)) == (
        "the last cycle began after epoch 6 and did not end in 7 epochs: there is no snapshot of it"
    )
    _, whole = search("whole", coarse__epochs=6)
    assert cut_short(stored_trial(whole, 0)) is None


@pytest.mark.slow
def test_trials_without_cycles_are_told_what_has_them(db, search):
    settings, _ = search("flat", train__lr_schedule="cosine")
    allowed = "\nAllowed: trials in which two cycles or more end, as of a search with --set train.lr_schedule=sgdr"
    with pytest.raises(ConfigError, match=r"has train.lr_schedule = 'cosine', whose rate does not restart") as told:
        make_ensemble(db, settings.run, ["flat"], snapshots=True)
    assert f"{allowed} --set train.lr_period=1 --set train.lr_period_factor=1." in str(told.value)
    settings, _ = search("long", train__lr_period=4, train__lr_period_factor=2)
    said = (
        r"of long has 7 epochs, in which 1 cycle of its rate ended \(train.lr_period = 4, train.lr_period_factor = 2\)"
    )
    with pytest.raises(ConfigError, match=said):
        make_ensemble(db, settings.run, ["long"], snapshots=True)
    space = ["lr=log(1e-2,0.3)", "reg=none", "lr_schedule=choice(sgdr,constant)"]
    settings, mixed = search("mixed", space=space, coarse__trials=6, train__lr_schedule=None)
    order = ranked(read_study(db, "mixed"))
    cyclic = [n for n in order if mixed.trials[n].params["train.lr_schedule"] == "sgdr"]
    flat = next(n for n in order if n not in cyclic)
    with pytest.raises(ConfigError, match=f"Allowed: --trial {cyclic[0]}, the best one with snapshots; or trials in"):
        make_ensemble(db, settings.run, ["mixed"], number=flat, snapshots=True)
    result = make_ensemble(db, settings.run, ["mixed"], number=cyclic[0], snapshots=True)
    assert {each.member.wanted.stored.trial.number for each in result.members} == {cyclic[0]}
    with pytest.raises(ConfigError, match="--trial 0 is a trial of one study, and --top names others"):
        make_ensemble(db, settings.run, ["mixed"], number=0, top=2)
    with pytest.raises(ConfigError, match="'mixed' has no trial 99"):
        make_ensemble(db, settings.run, ["mixed"], number=99)


def test_patience_ends_the_cycles_of_a_trial_where_it_ends(db, search):
    settings, evidence = search(train__patience=1, coarse__epochs=12, train__lr_period=1)
    stopped = [t.number for t in evidence.trials if trial_record(t).stopped_early and trial_record(t).epoch > 1]
    number = stopped[0]
    result = make_ensemble(db, settings.run, ["coarse"], number=number, snapshots=True)
    last = trial_record(evidence.trials[number]).epoch
    assert last < 12
    assert sorted(each.member.epoch for each in result.members) == list(range(1, last + 1))
    assert np.isfinite(result.val.value)
