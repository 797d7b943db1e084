"""Ensembles of a small search: where their nets come from, what they are worth, and what is kept of them."""

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from hpsearch.analysis import attributes
from hpsearch.analysis.kept_ensembles import members_table
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.cli.ensemble import next_words
from hpsearch.datasets.preparing import prepare_test
from hpsearch.errors import ConfigError, DataError, RefusedError
from hpsearch.search import ensemble_answers, ensemble_members
from hpsearch.search.ensemble import make_ensemble
from hpsearch.search.ensemble_answers import EnsembleListener
from hpsearch.search.ensemble_members import bootstrap_rows, bootstrapped
from hpsearch.search.stage_run import run_stage
from hpsearch.search.stored_trials import images_of, stored_trial
from hpsearch.search.trained_ensemble import load_ensemble
from hpsearch.search.trained_net import load_net
from hpsearch.search.training_run import run_training
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.training_plan import plan_training
from hpsearch.storage import find_study
from hpsearch.training.class_scores import class_scores
from hpsearch.worker.best_weights import read_weights

NOISY = {"data__synthetic__noise": 2.0, "data__synthetic__test": 60, "coarse__trials": 6, "coarse__epochs": 3}
SPACE = ["lr=log(1e-2,0.3)", "reg=none"]


@pytest.fixture
def search(db, tiny):
    def run(name="coarse", **keys):
        settings = tiny(**{**NOISY, "run__keep": "all", **keys}, space=SPACE)
        return settings, run_stage(db, plan_coarse(settings, name), settings.run, checks=False)

    return run


class Heard(EnsembleListener):
    """What was to be trained, and what was."""

    def __init__(self):
        self.missing, self.done = [], []
        super().__init__(
            to_train=lambda missing, _: self.missing.extend(missing), trained=lambda wanted, _: self.done.append(wanted)
        )


def said_by_plain_pytorch(settings, evidence, number, x=None):
    """Probabilities of a trial's kept weights."""
    stored = stored_trial(evidence, number)
    data = images_of(stored, settings.run)
    state, _ = read_weights(load_path(evidence, number))
    return class_scores(stored.config.model, state, data.x_val_NCHW if x is None else x, 3).double().softmax(1).numpy()


def load_path(evidence, number):
    [trial] = [trial for trial in evidence.trials if trial.number == number]
    return trial.attrs[attributes.WEIGHTS]


def ranked(evidence):
    complete = [t for t in evidence.trials if t.state == "COMPLETE"]
    return [t.number for t in sorted(complete, key=lambda t: (-t.value, t.number))]


def test_it_is_the_mean_of_what_the_best_trials_say(db, search):
    settings, evidence = search()
    heard = Heard()
    result = make_ensemble(db, settings.run, ["coarse"], top=3, listener=heard)
    assert not heard.missing
    best = ranked(evidence)[:3]
    assert sorted(each.member.wanted.stored.trial.number for each in result.members) == sorted(best)
    values = {t.number: t.value for t in evidence.trials}
    for each in result.members:
        assert each.value == pytest.approx(values[each.member.wanted.stored.trial.number])
        assert each.weight == pytest.approx(1 / 3)
    y = images_of(stored_trial(evidence, best[0]), settings.run).y_val_N.numpy()
    said = [said_by_plain_pytorch(settings, evidence, number) for number in best]
    mean = np.mean(said, axis=0)
    assert result.val.value == pytest.approx((mean.argmax(1) == y).mean())
    assert result.val.single == pytest.approx(max(values[number] for number in best))
    assert result.val.measures["loss"] == pytest.approx(sk.log_loss(y, mean, labels=range(3)))
    # Jensen: not worse than its nets are on average.
    assert result.val.measures["loss"] <= np.mean([sk.log_loss(y, p, labels=range(3)) for p in said]) + 1e-12
    assert attributes.TESTS not in find_study(db, "coarse").attrs


def test_the_metric_decides_which_is_better(db, search):
    settings, evidence = search(train__metric="loss")
    result = make_ensemble(db, settings.run, ["coarse"], top=4, greedy=True)
    losses = {t.number: t.value for t in evidence.trials if t.state == "COMPLETE"}
    assert result.best.value == pytest.approx(min(losses.values()), rel=1e-5)
    assert result.val.value <= result.val.single
    assert result.val.difference.gain == pytest.approx(result.val.single - result.val.value)
    assert [each.value for each in result.members] == sorted(each.value for each in result.members)
    assert sum(each.weight for each in result.members) == pytest.approx(1)


@pytest.mark.slow
def test_what_is_not_kept_is_trained_again_as_it_was_and_only_once(db, search):
    _, evidence = search("kept")
    again, _ = search("gone", run__keep="best")
    heard = Heard()
    result = make_ensemble(db, again.run, ["gone"], top=3, listener=heard)
    assert len(heard.missing) == len(heard.done) == 2  # the best one's are there
    assert all(each.seconds >= 0 for each in heard.missing)
    for each in result.members:
        number = each.member.wanted.stored.trial.number
        expected, _ = read_weights(load_path(evidence, number))
        for name, tensor in each.member.net.state.items():
            assert torch.allclose(tensor, expected[name], atol=1e-5), name  # a pack of another width rounds otherwise
        assert each.member.epoch == evidence.trials[number].attrs[attributes.BEST_EPOCH]
    second = Heard()
    repeated = make_ensemble(db, again.run, ["gone"], top=3, listener=second)
    assert not second.missing
    assert repeated.val == result.val
    assert len(stage_record(find_study(db, "gone")).trainings) == 2


def test_other_seeds_and_other_draws_of_the_images(db, search):
    settings, evidence = search(run__keep="best")
    seeds = make_ensemble(db, settings.run, ["coarse"], num_seeds=3)
    assert {each.member.wanted.seed for each in seeds.members} == {0, 1, 2}
    assert {each.member.wanted.stored.trial.number for each in seeds.members} == {evidence.best.number}
    bagged = make_ensemble(db, settings.run, ["coarse"], num_seeds=2, top=2, bagged=True)
    assert len(bagged.members) == 4
    assert all(each.member.wanted.bagged for each in bagged.members)
    states = [each.member.net.state for each in [*seeds.members, *bagged.members]]
    first = [tuple(next(iter(state.values())).flatten()[:8].tolist()) for state in states]
    assert len(set(first)) == 7
    heard = Heard()
    make_ensemble(db, settings.run, ["coarse"], num_seeds=2, top=2, bagged=True, listener=heard)
    assert not heard.missing
    trainings = stage_record(find_study(db, "coarse")).trainings
    assert len({(each.number, each.seed, each.bagged) for each in trainings}) == len(trainings) == 6
    assert all(each.path.is_file() for each in trainings)


def test_of_a_training_each_seed_is_taken_once(db, tiny):
    settings = tiny(**NOISY, run__keep="all", train__epochs=2)
    run_training(db, plan_training(settings.study, "train", 2), settings.run)
    heard = Heard()
    result = make_ensemble(db, settings.run, ["train"], top=2, num_seeds=3, listener=heard)
    found = sorted((each.member.wanted.seed, each.member.wanted.is_own) for each in result.members)
    assert found == [(0, True), (1, True), (2, False), (3, False)]
    assert len(heard.done) == 2


def test_a_trial_may_give_several_states(db, search, monkeypatch):
    """As snapshots of one run do."""
    settings, _ = search()
    kept_members = ensemble_answers.kept_members

    def snapshots(wanted, data, run):
        [last] = kept_members(wanted, data, run)
        state = {name: 0.5 * tensor for name, tensor in last.net.state.items()}
        path = last.path.with_name(f"{last.path.name}-1")
        save_file({f"weights/{name}": tensor for name, tensor in state.items()}, path)
        return [last, replace(last, net=replace(last.net, state=state), epoch=1, path=path)]

    monkeypatch.setattr(ensemble_answers, "kept_members", snapshots)
    result = make_ensemble(db, settings.run, ["coarse"], top=2)
    assert len(result.members) == 4
    kept = stage_record(find_study(db, "coarse")).ensemble
    columns, rows = members_table(kept.members, "val_acc")
    assert columns == ("study", "trial", "epoch", "val_acc", "weight")
    assert len(set(rows)) == 4
    loaded = load_ensemble(db, "coarse", settings.run)
    for net, each in zip(loaded.nets, result.members, strict=True):
        assert all(torch.equal(net.state[name], tensor) for name, tensor in each.member.net.state.items())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**62))
def test_draws_with_replacement_keep_the_number_of_each_class(labels, seed):
    y_N = np.array(labels)
    rows_N = bootstrap_rows(y_N, seed)
    assert np.bincount(y_N[rows_N], minlength=5).tolist() == np.bincount(y_N, minlength=5).tolist()
    assert (rows_N == bootstrap_rows(y_N, seed)).all()


def test_draws_leave_out_as_many_images_as_they_should(tiny, search):
    settings, evidence = search(run__keep="none", data__synthetic__train=1500)
    for memory in (0, 1):  # bytes: on disk
        run = settings.run.model_copy(update={"memory": memory})
        data = images_of(stored_trial(evidence, 0), run)
        assert data.on_disk == bool(memory)
        drawn = bootstrapped(data, 0, seed=3)
        x, y = drawn.train_images(), drawn.y_train_N
        all_x = data.train_images()
        rows = torch.cdist(x.flatten(1), all_x.flatten(1)).argmin(1)
        assert torch.equal(data.y_train_N[rows], y)
        assert len(set(rows.tolist())) / len(rows) == pytest.approx(1 - np.exp(-1), abs=0.03)
        other = bootstrapped(data, 1, seed=3).train_images()  # another trial of this seed has a draw of its own
        assert not torch.equal(x, other)
    assert ensemble_members.bootstrapped(data, 0, 3).num_train == data.num_train


def test_other_nets_of_the_same_images(db, search):
    mlp, _ = search("mlp")
    search("linear", model__name="linear", data__normalize="pixel", data__scale=255.0)
    result = make_ensemble(db, mlp.run, ["mlp", "linear"], top=2, test=True)
    names = [each.member.wanted.stored.study.name for each in result.members]
    assert sorted(names) == ["linear", "linear", "mlp", "mlp"]
    # The first study keeps it; each family counts the use, as it was chosen by its own trials.
    assert stage_record(find_study(db, "mlp")).ensemble is not None
    assert stage_record(find_study(db, "linear")).ensemble is None
    assert result.uses.by_family == {"mlp": 1, "linear": 1}
    assert len(stage_record(find_study(db, "linear")).tests) == 1
    loaded = load_ensemble(db, "mlp", mlp.run)
    assert [net.stored.study.name for net in loaded.nets] == names
    assert sum(loaded.weights) == pytest.approx(1)


def test_the_test_images_are_a_use_that_counts(db, search):
    settings, evidence = search()
    first = make_ensemble(db, settings.run, ["coarse"], top=3, test=True)
    stored = stored_trial(evidence, evidence.best.number)
    x, y = prepare_test(stored.config.data, images_of(stored, settings.run))
    numbers = [each.member.wanted.stored.trial.number for each in first.members]
    said = [said_by_plain_pytorch(settings, evidence, number, x) for number in numbers]
    assert first.test.value == pytest.approx((np.mean(said, axis=0).argmax(1) == y.numpy()).mean())
    assert first.test.single == pytest.approx((said[0].argmax(1) == y.numpy()).mean())
    assert first.test.difference.num_images == 60
    assert first.uses.by_family == {"coarse": 1}
    second = make_ensemble(db, settings.run, ["coarse"], top=2, test=True)
    assert second.uses.by_family == {"coarse": 2}
    [use, _] = stage_record(find_study(db, "coarse")).tests
    assert (use["trial"], use["num_test"], use["score"]) == ("ensemble of 3", 60, first.test.value)
    assert use["interval"][0] < use["mean"] < use["interval"][1]


def test_a_net_that_explodes_with_another_seed_is_left_out(db, search, monkeypatch):
    settings, _ = search(run__keep="best")
    retrain = ensemble_members.retrain

    def exploding(config, data, seed, **options):
        return retrain(config.with_params({"lr": 1e9}) if seed == 1 else config, data, seed, **options)

    monkeypatch.setattr(ensemble_members, "retrain", exploding)
    result = make_ensemble(db, settings.run, ["coarse"], num_seeds=3)
    assert [wanted.seed for wanted in result.exploded] == [1]
    assert {each.member.wanted.seed for each in result.members} == {0, 2}
    with pytest.raises(RefusedError, match="1 of 2 nets gave a value"):
        make_ensemble(db, settings.run, ["coarse"], num_seeds=2)


def test_what_cannot_be_one_ensemble_is_refused(db, search):
    run = search()[0].run
    for name, keys, said in [
        ("split", {"data__seed": 1}, "data.seed: 0 -> 1"),
        ("images", {"data__synthetic__noise": 1.0}, r"images: \S+ -> \S+"),
        ("metric", {"train__metric": "loss"}, 'train.metric: "accuracy" -> "loss"'),
    ]:
        search(name, coarse__trials=2, **keys)
        with pytest.raises(RefusedError, match=f"'coarse' and '{name}' cannot be one ensemble: {said}.\nAllowed:"):
            make_ensemble(db, run, ["coarse", name])
    with pytest.raises(ConfigError, match=r"--top 50: 'coarse' has \d finished trials.\nAllowed: 1 to \d"):
        make_ensemble(db, run, ["coarse"], top=50)
    with pytest.raises(ConfigError, match=r"trial \d of coarse is one net, and an ensemble has two or more"):
        make_ensemble(db, run, ["coarse", "coarse"], top=1)
    search("none", run__keep="none", coarse__trials=3)
    with pytest.raises(RefusedError, match="no weights of 'none' are kept, so --kept leaves no net"):
        make_ensemble(db, run, ["none"], kept_only=True)
    search("one", run__keep="best", coarse__trials=3)
    with pytest.raises(ConfigError, match="--top 2: 'one' has 1 finished trial whose weights are kept"):
        make_ensemble(db, run, ["one"], top=2, kept_only=True)
    with pytest.raises(RefusedError, match=r"the weights of trial \d of one, seed 1 are not kept"):
        make_ensemble(db, run, ["one"], num_seeds=2, kept_only=True)
    with pytest.raises(RefusedError, match=r"'coarse' has no ensemble.\nMake one with: hpsearch ensemble coarse"):
        load_ensemble(db, "coarse", run)


def test_images_without_a_test_split_are_said_to_have_none_before_anything_is_trained(db, tiny, tmp_path):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x_train=generator.normal(size=(60, 1, 4, 4)), y_train=np.arange(60) % 3)
    settings = tiny(data__source=f"npz:{tmp_path}/x.npz", coarse__trials=3, run__keep="none", space=SPACE)
    run_stage(db, plan_coarse(settings), settings.run, checks=False)
    heard = Heard()
    with pytest.raises(DataError, match="test"):
        make_ensemble(db, settings.run, ["coarse"], test=True, listener=heard)
    assert not heard.done


def test_weights_that_are_gone_are_named(db, search):
    settings, _ = search()
    result = make_ensemble(db, settings.run, ["coarse"], top=2)
    path = result.chosen[0].member.path
    moved = path.with_name("moved")
    path.rename(moved)
    number = result.chosen[0].member.wanted.stored.trial.number
    with pytest.raises(
        RefusedError, match=f"the weights of trial {number} of 'coarse', which are part of the ensemble"
    ):
        load_ensemble(db, "coarse", settings.run)
    moved.rename(path)
    [one, _] = load_ensemble(db, "coarse", settings.run).nets
    alone = load_net(read_study(db, "coarse"), settings.run, number)
    assert all(torch.equal(one.state[name], tensor) for name, tensor in alone.state.items())


def test_where_nothing_is_kept_it_is_measured_and_not_used_later(db, search):
    settings, _ = search(run__keep="none")
    result = make_ensemble(db, settings.run, ["coarse"], top=3)
    assert all(each.member.path is None for each in result.members)
    assert not stage_record(find_study(db, "coarse")).trainings
    with pytest.raises(RefusedError, match="which are part of the ensemble of 'coarse', are not kept"):
        load_ensemble(db, "coarse", settings.run)
    advice, words = next_words(result, settings.run)
    if result.val.difference.gain > 0:
        assert (words, "--weights FOLDER" in advice) == ([], True)
    else:
        assert advice == "one net is as good here"


@pytest.mark.parametrize(
    "stored",
    [None, [], {"members": []}, {"members": [{"study": "x"}]}, {"members": "none"}, {"members": [3]}],
)
def test_what_others_keep_under_that_name_is_no_ensemble(stored):
    from hpsearch.storage import StudyRow

    row = StudyRow(1, "x", ("maximize",), {attributes.ENSEMBLE: stored, attributes.TRAININGS: stored})
    assert stage_record(row).ensemble is None
    assert stage_record(row).trainings == ()
