"""What `--keep` leaves behind, read with NumPy and plain PyTorch alone, after a search whose worker was killed."""

import contextlib
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from safetensors import safe_open

from hpsearch.analysis.export import study_as_dict
from hpsearch.analysis.study_trials import read_study
from hpsearch.config import DataConfig
from hpsearch.datasets.splits import divide
from hpsearch.storage import open_database, read_epochs

# The second checkpoint of epoch 5 is the last thing that is written; the training waits there.
KILL = """
import os, signal, sys, threading
from pathlib import Path

marker = Path({marker!r})
if "coarse" in sys.orig_argv and not marker.exists():
    from hpsearch.training import Pack
    from hpsearch.training.checkpoints import Checkpoints

    save, run_epoch, saved = Checkpoints.save, Pack.run_epoch, []

    def save_and_die(self, number, checkpoint):
        save(self, number, checkpoint)
        saved.append(checkpoint.snapshot.epoch)
        if saved.count(5) == 2:
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def wait_there(self):
        if self.epoch == 5:
            threading.Event().wait()
        return run_epoch(self)

    Checkpoints.save, Pack.run_epoch = save_and_die, wait_there
"""
COARSE = (
    "coarse", "--data", "npz:images.npz", "--trials", "10", "--epochs", "12", "--keep", "all", "--skip-checks",
    "--set", "model.hidden=[6]", "--set", "train.batch_size=20", "--set", "train.lr_decay=1.0",
    "--set", "train.patience=4", "--space", "lr=log(1e-2, 3)", "--space", "reg=none",
    "--set", "run.width=5", "--set", "run.checkpoint_seconds=0",
)  # fmt: skip


@pytest.fixture
def images(tmp_path):
    """Noisy bytes of three classes; what a trial learns of them is soon lost again."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = 128 + 12 * rng.standard_normal((3, 5, 5))[y] + 36 * rng.standard_normal((120, 5, 5))
    arrays = {"x_train": x.clip(0, 255).astype(np.uint8), "y_train": y}
    np.savez(tmp_path / "images.npz", **arrays, x_test=arrays["x_train"][:30], y_test=y[:30])
    return arrays


def _names(path):
    with safe_open(path, "np") as file:
        return list(file.keys())


def validation_images(images):
    """Normalized by hand: mean and standard deviation of the pixels that were trained on."""
    train, val = divide(DataConfig(), images["y_train"])
    x = images["x_train"].astype(np.float64) / 255
    x = (x - x[train].mean()) / x[train].std()
    return torch.tensor(x[val], dtype=torch.float32), torch.tensor(images["y_train"][val])


def test_the_weights_give_the_value_that_is_reported(hpsearch, tmp_path, images):
    marker = tmp_path / "killed"
    (tmp_path / "sitecustomize.py").write_text(KILL.format(marker=str(marker)))
    hpsearch(*COARSE, code=-9, PYTHONPATH=str(tmp_path))
    assert marker.exists()
    checkpoints = {path: _names(path) for path in tmp_path.rglob("checkpoints/*/*/*.safetensors")}
    assert "5" in {path.stem for path in checkpoints}
    assert any("best/fc1.weight" in names for names in checkpoints.values())
    told = hpsearch(*COARSE).stdout
    with contextlib.closing(open_database(f"sqlite:///{tmp_path}/studies/hpsearch.db")) as db:
        evidence = read_study(db, "coarse")
        trials = study_as_dict(evidence, read_epochs(db, evidence.study))["trials"]
    assert len(trials) == 10

    x, y = validation_images(images)
    early = 0
    for trial in trials:
        if trial["attributes"].get("reason") == "exploded":
            continue
        assert trial["state"] == "COMPLETE"
        with safe_open(trial["attributes"]["weights"], "pt") as file:
            metadata = file.metadata()
            first, second = (
                [file.get_tensor(f"weights/{layer}.{kind}") for kind in ("weight", "bias")] for layer in ("fc1", "fc2")
            )
        hidden = torch.nn.functional.linear(x.flatten(1), *first).relu()
        correct = int((torch.nn.functional.linear(hidden, *second).argmax(1) == y).sum())
        assert correct / len(y) == trial["value"] == max(epoch["val_acc"] for epoch in trial["epochs"])
        best_epoch = trial["attributes"]["best_epoch"]
        del metadata["images"]
        del metadata["update_ratios"]  # of each layer, see tests/training/test_layer_ratios.py
        assert metadata == {
            "trial": str(trial["number"]), "epoch": str(best_epoch), "val_acc": repr(trial["value"]),
        }  # fmt: skip
        early += trial["attributes"]["last_val_acc"] < trial["value"]
        stopped = len(trial["epochs"]) < 12
        assert trial["attributes"].get("reason") == ("stopped early" if stopped else None)
    assert early >= 4
    assert re.search(r"val_acc: 0\.\d+, lr: \S+, stopped early in epoch \d+, \(\d+ / 10\)", told)
    assert re.search(r"coarse   10 of 10 trials x 12 epochs · .*\d stopped early", told)

    tested = hpsearch("test", "coarse").stdout
    assert re.search(r"trained  (up to )?12 epochs on 96 training images; the weights of its best epoch, \d+\n", tested)


def test_the_patient_pruner_by_its_name_alone(hpsearch, tmp_path, images):
    """Its trials end at the peak, or after it: the best value of all is still the best trial's, for Optuna, too."""
    summary = hpsearch.json(*COARSE, "--set", "train.patience=none", "--pruner", "patient")
    assert sum(summary["states"].values()) == 10
    study = optuna.load_study(study_name="coarse", storage=f"sqlite:///{Path(tmp_path) / 'studies' / 'hpsearch.db'}")
    seen = [trial for trial in study.trials if trial.user_attrs.get("reason") != "exploded"]
    assert any(trial.user_attrs.get("reason") == "patient" for trial in seen)
    best = max(max(trial.intermediate_values.values()) for trial in seen)
    assert study.best_value == best == summary["best"]["value"]
    assert study.best_trial.number == summary["best"]["number"]
