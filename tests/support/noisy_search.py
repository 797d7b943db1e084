"""A search whose validation curves go up and down: high rates on a few noisy images; the highest of them explode."""

import torch
from safetensors import safe_open

from hpsearch.analysis import attributes
from hpsearch.config import load_settings
from hpsearch.models import build
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.training.images import load_images

EPOCHS = 8
STUDY = {
    "data": {
        "source": "synthetic",
        "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 30, "noise": 3.0},
    },
    "model": {"name": "mlp", "hidden": [6]},
    "train": {"batch_size": 20, "precision": "float64", "lr_decay": 1.0},
    "space": {"lr": {"log": [3e-3, 3.0]}, "reg": {"log": [1e-5, 1e-2]}},
    "coarse": {"trials": 12, "epochs": EPOCHS},
    "run": {"device": "cpu", "threads": 1, "keep": "all"},
}


def noisy(**other):
    """Its settings, with other keys by dotted path (`__` for the dot)."""
    return load_settings(stored=STUDY, flags={key.replace("__", "."): value for key, value in other.items()})


def run(db, settings, listener=None, name="coarse"):
    plan = plan_coarse(settings, name)
    return run_stage(db, plan, settings.run, listener=listener, checks=False)


class Interrupting(SearchListener):
    """Ends the search, without a warning, after so many epochs of packs."""

    def __init__(self, num_epochs):
        self.num_left = num_epochs

    def epoch_finished(self, num_trials):
        self.num_left -= 1
        if not self.num_left:
            raise KeyboardInterrupt


def assert_kept(settings, trial):
    """The file of a trial that is complete gives its value, image for image, and says of which epoch it is."""
    config = plan_coarse(settings).trial_config.with_params(trial.params)
    data = load_images(config, settings.run)
    with safe_open(trial.attrs[attributes.WEIGHTS], "pt") as file:
        metadata, names = file.metadata(), list(file.keys())
        state = {n.removeprefix("weights/"): file.get_tensor(n) for n in names if n.startswith("weights/")}
    net = build(config.model, data.shape, data.num_classes).to(data.x_val_NCHW).eval()
    net.load_state_dict(state)
    with torch.no_grad():
        assert (net(data.x_val_NCHW).argmax(1) == data.y_val_N).double().mean().item() == trial.value
    epoch = trial.attrs[attributes.BEST_EPOCH]
    assert trial.intermediate[epoch] == trial.value == max(trial.intermediate.values())
    assert trial.value not in [trial.intermediate[before] for before in range(1, epoch)]  # the earliest among equals
    del metadata["images"]  # what was done to them, see tests/search/test_weights_folder.py
    del metadata["update_ratios"]  # of each layer, see tests/training/test_layer_ratios.py
    assert metadata == {"trial": str(trial.number), "epoch": str(epoch), "val_acc": repr(trial.value)}
