import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.records import KeptWeights
from hpsearch.errors import StorageError
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study
from hpsearch.storage.leases import lock_free
from hpsearch.training.images import load_images
from hpsearch.worker.best_weights import announce_portrait, load_portrait
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.trial_source import TrialSource


def run(db, settings):
    plan = plan_coarse(settings)
    return run_stage(db, plan, settings.run, checks=False)


@pytest.mark.parametrize(
    ("model", "filters"), [("linear", (3, 1, 4, 4)), ("mlp", (6, 1, 4, 4)), ("lenet", (6, 1, 5, 5))]
)
def test_the_best_trial_is_kept_with_its_filters(db, tiny, tmp_path, model, filters):
    settings = tiny(model__name=model, run__width=3, model__dropout=0.2)
    evidence = run(db, settings)
    portrait = load_portrait(find_study(db, "coarse"))
    assert portrait is not None
    assert evidence.best is not None
    assert (portrait.number, portrait.value) == (evidence.best.number, evidence.best.value)
    assert portrait.filters is not None
    assert portrait.filters.shape == filters
    assert np.isfinite(portrait.filters).all()
    for share in portrait.sparsity.values():
        assert ((share >= 0) & (share <= 1)).all()
    kept = list((tmp_path / "studies" / "artifacts").iterdir())
    assert kept == [portrait.path]  # those of earlier bests are gone


def test_the_kept_weights_are_those_that_were_trained(db, tiny):
    """Measured again, the net gives the value of the trial: the validation accuracy of its best epoch."""
    import torch
    from safetensors.torch import load_file

    from hpsearch.models import build

    settings = tiny(model__batch_norm=True)
    evidence = run(db, settings)
    portrait = load_portrait(find_study(db, "coarse"))
    plan = plan_coarse(settings)
    data = load_images(plan.trial_config, settings.run)
    net = build(plan.trial_config.model, data.shape, data.num_classes).eval()
    weights = {n.removeprefix("weights/"): t for n, t in load_file(portrait.path).items() if n.startswith("weights/")}
    net.load_state_dict(weights)
    with torch.no_grad():
        accuracy = (net(data.x_val_NCHW).argmax(1) == data.y_val_N).double().mean().item()
    assert accuracy == portrait.value == evidence.best.value
    assert evidence.best.intermediate[portrait.epoch] == portrait.value


def test_silent_units_are_found(db, tiny):
    """A unit whose bias is far below zero is silent on every image, one whose bias is far above on none."""
    import torch

    from hpsearch.models import build
    from hpsearch.training.sparsity import unit_sparsity

    plan = plan_coarse(tiny())
    data = load_images(plan.trial_config, tiny().run)
    state = build(plan.trial_config.model, data.shape, data.num_classes).state_dict()
    state["fc1.bias"] = torch.tensor([-1e3, 1e3, -1e3, 1e3, 1e3, 1e3])
    share = unit_sparsity(plan.trial_config.model, state, data.train_images(), data.num_classes)
    assert share["fc_act1"].tolist() == [1, 0, 1, 0, 0, 0]


def test_nothing_is_kept_on_request_and_a_lost_file_is_no_error(db, tiny, tmp_path):
    run(db, tiny(run__keep="none"))
    assert load_portrait(find_study(db, "coarse")) is None
    assert not (tmp_path / "studies" / "artifacts").exists()


def test_a_broken_file_is_named(db, tiny):
    run(db, tiny())
    study = find_study(db, "coarse")
    path = load_portrait(study).path
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(StorageError, match=str(path.name)):
        load_portrait(study)
    path.unlink()
    assert load_portrait(study) is None


def test_the_best_trial_is_an_artifact_that_optuna_finds(db, tiny, tmp_path):
    evidence = run(db, tiny())
    portrait = load_portrait(find_study(db, "coarse"))
    study = optuna.load_study(study_name="coarse", storage=db.optuna_storage())
    [meta] = optuna.artifacts.get_all_artifact_meta(study)  # those of earlier bests are off the list
    assert meta.filename == f"trial-{evidence.best.number}.safetensors"
    store = optuna.artifacts.FileSystemArtifactStore(portrait.path.parent)
    copy = tmp_path / meta.filename
    optuna.artifacts.download_artifact(artifact_store=store, file_path=str(copy), artifact_id=meta.artifact_id)
    assert copy.read_bytes() == portrait.path.read_bytes()


def test_the_weights_of_all_trials_are_kept_on_request(db, tiny):
    from safetensors.numpy import load_file

    evidence = run(db, tiny(run__keep="all"))
    complete = [trial for trial in evidence.trials if trial.state == "COMPLETE"]
    files = {trial.number: Path(trial.attrs[attributes.WEIGHTS]) for trial in complete}
    assert len(set(files.values())) == len(complete) > 1
    assert all("weights/fc1.weight" in load_file(path) for path in files.values())
    portrait = load_portrait(find_study(db, "coarse"))
    assert portrait.path == files[portrait.number]


def test_a_better_one_of_another_worker_stays(db, tiny, tmp_path):
    run(db, tiny())
    study = find_study(db, "coarse")
    before = load_portrait(study)
    worse = tmp_path / "worse"
    worse.write_bytes(b"")
    announce_portrait(db, study, KeptWeights(worse, 5, before.value - 0.1, 1))
    assert load_portrait(find_study(db, "coarse")).path == before.path
    assert not worse.exists()


def test_of_workers_that_find_a_better_one_at_once_the_best_is_kept(db, tiny, tmp_path):
    run(db, tiny())
    study = find_study(db, "coarse")
    for round_ in range(1, 13):
        paths = [tmp_path / f"{round_}-{worker}" for worker in range(4)]
        for path in paths:
            path.write_bytes(b"")
        barrier = threading.Barrier(4)

        def announce(worker, number=round_, paths=paths, barrier=barrier):
            barrier.wait()
            value = number + [0.2, 0.4, 0.4, 0.3][worker]
            announce_portrait(db, study, KeptWeights(paths[worker], 10 * number + worker, value, 1))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(announce, range(4)))
        kept = find_study(db, "coarse").attrs[attributes.PORTRAIT]
        assert (kept["value"], kept["number"]) == (round_ + 0.4, 10 * round_ + 1)  # the first among equals
        assert [path for path in tmp_path.glob("[0-9]*-[0-9]") if path.is_file()] == [paths[1]]


class Order:
    """Takes the trials of a stage one by one, in an order of the test's."""

    def __init__(self, monkeypatch, numbers):
        self.numbers = list(numbers)
        monkeypatch.setattr("hpsearch.storage.queue.lock_free", self.lock_free)

    def lock_free(self, connection, study_id, now, limit):
        free = {lease.number: lease for lease in lock_free(connection, study_id, now, 1000)}
        return [free[number] for number in self.numbers if number in free][:limit]


@pytest.mark.parametrize("sessions", [1, 2])
def test_of_equals_the_lowest_number_is_kept_in_whatever_order_they_end(db, tiny, monkeypatch, sessions):
    """As `hpsearch best` has it. Patience, resumed packs and several workers end them in any order."""
    settings = tiny(run__width=1, coarse__epochs=1, coarse__trials=5)
    monkeypatch.setattr(HeldTrial, "best", property(lambda self: replace(self.results[0], val_acc=0.5)))
    order = Order(monkeypatch, [3, 4, 1, 2, 0] if sessions == 1 else [3, 4])
    if sessions == 2:  # the second one knows the best from the database
        original, left = TrialSource.take_trials, [3]

        def take(self, held, width):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            original(self, held, width)

        monkeypatch.setattr(TrialSource, "take_trials", take)
        with pytest.raises(KeyboardInterrupt):
            run(db, settings)
        assert load_portrait(find_study(db, "coarse")).number == 3
        order.numbers = [1, 2, 0]
    evidence = run(db, settings)
    assert evidence.best is not None
    assert {trial.value for trial in evidence.trials if trial.state == "COMPLETE"} == {0.5}
    assert load_portrait(find_study(db, "coarse")).number == evidence.best.number < 3


def test_the_kept_weights_are_of_the_best_where_patience_ends_trials_in_any_order(db, tiny):
    settings = tiny(train__patience=1, coarse__epochs=12, coarse__trials=30)
    evidence = run(db, settings)
    values = [trial.value for trial in evidence.trials if trial.state == "COMPLETE"]
    assert values.count(evidence.best.value) > 1
    assert load_portrait(find_study(db, "coarse")).number == evidence.best.number
