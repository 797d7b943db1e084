"""An ensemble that leaves the house says the same elsewhere: by a plain script, where hpsearch cannot be imported."""

import csv
import io
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from warm_commands import warm_commands

from hpsearch.config import load_settings
from hpsearch.config.usercode import trust
from hpsearch.errors import ConfigError
from hpsearch.search.ensemble import make_ensemble
from hpsearch.search.ensemble_folder import write_ensemble
from hpsearch.search.prediction import find_images, predict_images
from hpsearch.search.stage_run import run_stage
from hpsearch.search.trained_ensemble import load_ensemble
from hpsearch.search.weights_folder import refuse_replacing
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database

STUDIES = {  # nets, normalizations, scales and precisions that differ, of the same images
    "mlp": {"model.name": "mlp", "data.normalize": "feature", "data.scale": 255.0, "model.batch_norm": True},
    "lenet": {"model.name": "lenet", "data.normalize": "pixel", "train.precision": "float64"},
    "resnet": {"model.name": "resnet", "model.depth": 8, "model.dropout": 0.2},
    "own": {"model.name": "ownnets:tiny"},
}
OWN = """
from torch import nn
def tiny(shape, num_classes):
    return nn.Sequential(nn.Conv2d(shape[0], 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(5, num_classes))
"""


def photographs(folder, names, num, seed=0):
    generator = np.random.default_rng(seed)
    for base, name in zip((10, 140), names, strict=True):
        Path(folder, name).mkdir(parents=True)
        for i in range(num):
            pixels = base + generator.integers(0, 110, (20, 24, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(Path(folder, name, f"{i}.png"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Four searches of two trials each, their images, and an ensemble of all nets in the folder `net`."""
    folder, before = tmp_path_factory.mktemp("ensemble"), Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        Path("ownnets.py").write_text(OWN)
        trust("ownnets")
        photographs("photos", ("night", "day"), 12)
        photographs("new", ("a", "b"), 3, seed=1)
        db = open_database("sqlite:///studies.db", create=True)
        for name, keys in STUDIES.items():
            flags = {"data.source": "folder:photos", "data.resize": "crop", "train.batch_size": 8, "coarse.epochs": 1}
            flags |= {"coarse.trials": 2, "run.keep": "all", "run.device": "cpu", "run.threads": 1, **keys}
            settings = load_settings(flags=flags, spaces=["lr=log(1e-4,1e-3)", "reg=none"])
            run_stage(db, plan_coarse(settings, name), settings.run, checks=False)
        result = make_ensemble(db, settings.run, list(STUDIES), top=2)
        files = write_ensemble(result, Path("net"))
        Path("photos").rename("photos.gone")
        yield folder, db, settings.run, result, files
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))


@pytest.mark.slow
def test_the_script_says_what_predict_says(home, monkeypatch):
    folder, db, run, result, files = home
    monkeypatch.chdir(folder)
    assert len(result.members) == 8
    names = [f"member-{i}.safetensors" for i in range(1, 9)]
    assert [path.name for path in files] == [*names, "ensemble.toml", "predict.py"]
    images = find_images(["new"])
    line = ["net/predict.py", *map(str, images.paths)]
    done = warm_commands().run_script(line, folder, dict(os.environ), timeout=600)
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader(io.StringIO(done.stdout)))
    nets = load_ensemble(db, "mlp", run)
    said = [each for batch in predict_images(nets, images, torch.device("cpu"), 2) for each in batch]
    assert [row[0] for row in rows] == [each.name for each in said] == [str(path) for path in images.paths]
    assert [row[1] for row in rows] == [each.top[0][0] for each in said]
    probabilities = np.array([each.top[0][1] for each in said])
    assert np.abs([float(row[2]) for row in rows] - probabilities).max() < 1e-6
    # And each is the mean of what the nets say alone.
    alone = np.zeros((len(said), 2))
    for net, weight in zip(nets.nets, nets.weights, strict=True):
        for batch in predict_images(net, images, torch.device("cpu"), 2):
            alone += [[weight * dict(each.top)[name] for name in ("day", "night")] for each in batch]
    together = np.array([[dict(each.top)[name] for name in ("day", "night")] for each in said])
    assert together == pytest.approx(alone, abs=1e-9)
    assert together.sum(1) == pytest.approx(1)


def test_the_script_is_plain_and_the_description_whole(home):
    folder, _, _, result, _ = home
    script = (folder / "net" / "predict.py").read_text()
    assert "import hpsearch" not in script
    assert "from hpsearch" not in script
    assert script.count("def net_") == 4  # one for each kind of net
    assert max(map(len, script.splitlines())) <= 120
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E4,E7,F,I,UP", "-"]
    assert subprocess.run(ruff, input=script, text=True).returncode == 0
    about = tomllib.loads((folder / "net" / "ensemble.toml").read_text())
    assert about["ensemble"]["studies"] == list(STUDIES)
    assert about["ensemble"]["val_acc"] == result.val.value
    assert about["classes"]["names"] == ["day", "night"]
    assert about["images"]["crop"] is True
    members = list(about["members"].values())
    assert [each["study"] for each in members] == [m.member.wanted.stored.study.name for m in result.members]
    assert sum(each["weight"] for each in members) == pytest.approx(1)
    assert {each["model"]["name"] for each in members} == {"mlp", "lenet", "resnet", "ownnets:tiny"}
    assert {each["factor"] for each in members} == {1.0, 1 / 255}


def test_an_ensemble_takes_another_one_s_place_whole(home, tmp_path):
    _, _, _, result, _ = home
    write_ensemble(result, tmp_path)
    with pytest.raises(ConfigError, match="is there already"):
        refuse_replacing(tmp_path, force=False, files=("ensemble.toml", "predict.py"))
    (tmp_path / "member-9.safetensors").write_text("of a larger one")
    (tmp_path / "mine.txt").write_text("stays")
    write_ensemble(result, tmp_path)
    assert not (tmp_path / "member-9.safetensors").exists()
    assert (tmp_path / "mine.txt").exists()
