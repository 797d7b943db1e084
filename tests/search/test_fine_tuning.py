"""A search over how much of a pretrained net trains, by the commands, from a file of weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from typer.testing import CliRunner

from hpsearch.cli.app import app
from hpsearch.config import load_settings
from hpsearch.errors import HpsearchError

NAME = "shufflenet_v2_x0_5"


def run(*words):
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, HpsearchError):
        return str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photos and weights, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(16):
            pixels = (random.integers(0, 90, (40, 40, 3)) + 120 * label).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    torch.manual_seed(0)
    torch.save(getattr(models, NAME)(num_classes=3).state_dict(), "w.pt")
    return tmp_path


@pytest.mark.slow  # a whole net of a library trains
def test_how_much_of_a_net_trains_is_searched_from_a_file(here):
    command = [
        "coarse", "--data", "folder:photos", "--model", f"torchvision:{NAME}", "--set", "data.size=32", "--trials", "3",
        "--epochs", "1", "--set", "train.batch_size=8", "--space", "model.freeze=choice(none,all,2)", "--skip-checks",
        "--set", "coarse.seed=5", "--space", "layer_decay=uniform(0.3,1)", "--json",
    ]  # fmt: skip
    said = run(*command, "--set", "model.weights=w.pt")
    result = json.loads(said.splitlines()[-1])
    assert result["states"] == {"COMPLETE": 3}
    assert len(list((here / "data" / "cache").glob("features-*.npy"))) == 1
    (here / "moved").mkdir()
    (here / "w.pt").rename("moved/w.pt")
    again = run(*command, "--set", "model.weights=moved/w.pt")
    assert "another search" not in again
    torch.manual_seed(1)
    torch.save(getattr(models, NAME)(num_classes=3).state_dict(), "w.pt")
    other = run(*command, "--set", "model.weights=w.pt")
    assert "is another search: model.weights" in other
    missing = run(*command, "--set", "model.weights=none.pt")
    assert "none.pt' is not a file" in missing


def test_what_a_pretrained_net_asks_of_its_images_is_the_default():
    flags = {"model.name": f"torchvision:{NAME}", "model.weights": "w.pt", "data.source": "folder:photos"}
    data = load_settings(flags=flags).study.data
    assert (data.size, data.normalize) == (224, "pretrained")
    data = load_settings(flags=flags, sets=["data.size=32", "data.normalize=channel"]).study.data
    assert (data.size, data.normalize) == (32, "channel")
    study = load_settings(flags={**flags, "data.source": "digits"}).study
    assert (study.data.size, study.data.normalize) == (None, "pretrained")
    assert (study.space["lr"].low, study.space["lr"].high) == (1e-5, 0.1)
    del flags["model.weights"]
    assert load_settings(flags=flags).study.data.normalize == "channel"
