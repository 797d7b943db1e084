"""A net that leaves the house says the same elsewhere: by a plain script, where hpsearch cannot be imported."""

import csv
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from warm_commands import warm_commands

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import read_study
from hpsearch.config import load_settings
from hpsearch.config.usercode import trust
from hpsearch.datasets.decoding import decode
from hpsearch.errors import ConfigError, DataError, MissingExtraError, RefusedError
from hpsearch.search.onnx_model import PACKAGES, onnx_model
from hpsearch.search.prediction import Unreadable, find_images, predict_images
from hpsearch.search.stage_run import run_stage
from hpsearch.search.trained_net import load_net
from hpsearch.search.weights_folder import FILES, write_weights
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database

NETS = {
    "linear": {"data.normalize": "none"},
    "mlp": {"model.batch_norm": True, "model.dropout": 0.2, "data.normalize": "feature", "data.scale": 255.0},
    "lenet": {"model.activation": "tanh", "data.normalize": "pixel", "train.precision": "float64"},
    "convnet": {
        "model.batch_norm": True,
        "model.activation": "gelu",
        "model.channels": [4, 6],
        "data.resize": "crop",
    },
    "resnet": {"model.dropout": 0.2, "data.limit": 8, "data.val": 4},
    "resnet group": {"model.norm": "group", "model.depth": 14, "model.dropout": 0.2, "model.stochastic_depth": 0.2},
    "resnet none": {"model.norm": "none", "model.init": "lecun98", "data.limit": 8, "data.val": 4},
    "resnet fixup": {"model.norm": "none", "model.depth": 8, "model.init": "fixup", "model.dropout": 0.2},
    "vgg": {"model.depth": 11, "model.norm": "batch", "data.size": 32, "model.hidden": [6], "model.dropconnect": 0.2},
    "convnet bare": {
        "model.norm": "layer",
        "model.activation": "none",
        "model.pool": "average",
        "model.init": "lsuv",
        "model.factor": True,
    },
    "torchvision:squeezenet1_1": {"data.size": 32, "model.hidden": [6]},
    "torchvision:shufflenet_v2_x0_5": {"data.size": 32},
    "torchvision:shufflenet_v2_x0_5 early": {"data.size": 32, "model.features": 1},
    "plainnets:tiny": {"model.options": {"width": 5, "kind": "x'\"y"}},
}
# Of each kind of net and normalization; the others would take seconds, and tell nothing new.
IN_ONNX = (
    "mlp",
    "lenet",
    "convnet",
    "torchvision-squeezenet1_1",
    "torchvision-shufflenet_v2_x0_5-early",
    "plainnets-tiny",
    "floats",
)
# An export takes seconds, most of them the same for all nets: in each run one with a crop, one of the
# user's, and floats.
SLOW_IN_ONNX = ("mlp", "lenet", "torchvision-squeezenet1_1", "torchvision-shufflenet_v2_x0_5-early")
HAS_ONNX = all(map(importlib.util.find_spec, (*PACKAGES, "onnxruntime")))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="onnx is not installed: pip install 'hpsearch[onnx]' onnxruntime")
USERS = """
from torch import nn
def tiny(shape, num_classes, width, kind):
    assert kind == "x'\\"y"
    return nn.Sequential(nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_classes))
"""
# Runs each folder's script as `python FOLDER/predict.py FILES` does; one process is enough.
DRIVER = """
import contextlib, io, json, runpy, sys
from pathlib import Path
try:
    import hpsearch
    sys.exit("hpsearch is here")
except ImportError:
    pass
folders, files = json.loads(Path("asked.json").read_text())
said = {}
for folder in folders:
    sys.argv = [f"{folder}/predict.py", *files[folder]]
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    with contextlib.redirect_stdout(out):
        runpy.run_path(sys.argv[0], run_name="__main__")
    out.flush()
    said[folder] = out.buffer.getvalue().decode("utf-8", "surrogateescape")
print(json.dumps(said))
"""


def called(name):
    """A net, as a folder and a study."""
    return name.replace(":", "-").replace(" ", "-")


def draw_images(folder, size=(11, 9)):
    """One of each kind that is decoded in its own way."""
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    folder.mkdir(parents=True)
    Image.fromarray(rgb).save(folder / "plain.png")
    Image.fromarray(rgb).save(folder / 'a, "b"\nc.jpg')
    Image.fromarray(rgb[..., 0]).save(folder / "gray.png")
    Image.fromarray(rgb).quantize(8).save(folder / "palette.gif")
    Image.fromarray(np.dstack([rgb, rgb[..., :1]])).save(folder / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(rgb).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(rng.integers(0, 4000, size).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(rng.integers(-50, 70_000, size).astype(np.int32)).save(folder / "deeper.tif")


def train(name, source, study=None, **keys):
    flags = {
        "data.source": source,
        "model.name": name.partition(" ")[0],
        "train.batch_size": 8,
        "coarse.trials": 1,
        "coarse.epochs": 1,
    }
    flags |= {"data.val": 6, "run.device": "cpu", "run.threads": 1, **keys}
    settings = load_settings(flags=flags, spaces=["lr=log(1e-4,1e-3)", "reg=none"])
    study = study or called(name)
    db = open_database("sqlite:///studies.db", create=True)
    run_stage(db, plan_coarse(settings, study), settings.run, checks=False)
    return load_net(read_study(db, study), settings.run)


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    """Nets trained on a folder of photographs that is gone then; what their scripts say, and what predict says."""
    home, before = tmp_path_factory.mktemp("nets"), Path.cwd()
    os.chdir(home)
    sys.path.insert(0, str(home))
    try:
        Path("plainnets.py").write_text(USERS)
        trust("plainnets")
        for label in ("one", "two"):
            draw_images(Path("photos", label, "some"))
            draw_images(Path("photos", label, "more"), size=(8, 8))
        draw_images(Path("new"))
        files = sorted(str(path) for path in Path("new").iterdir())
        nets = {called(name): train(name, "folder:photos", **keys) for name, keys in NETS.items()}
        # Floats of a synthetic source are no image files.
        floats = {"data.synthetic": {"shape": [2, 3, 4], "classes": 3, "train": 60}}
        nets["floats"] = train("linear", "synthetic", "floats", **floats)
        np.save("floats.npy", np.random.default_rng(0).normal(size=(3, 2, 3, 4)))
        np.savez("floats.npz", x=np.load("floats.npy"))
        Path("photos").rename("photos.gone")
        expected, given = {}, {}
        for name, net in nets.items():
            given[name] = ["floats.npy"] if name == "floats" else files
            write_weights(net, Path(name))
            images = find_images(["floats.npz"] if name == "floats" else files)
            expected[name] = [p for batch in predict_images(net, images, torch.device("cpu")) for p in batch]
        Path("driver.py").write_text(DRIVER)
        Path("asked.json").write_text(json.dumps([list(nets), given]))
        done = warm_commands().run_script(["driver.py", "torchvision"], home, dict(os.environ), timeout=600)
        assert done.returncode == 0, done.stderr
        with pytest.raises(DataError, match="nothing says which float a pixel of an image file would be"):
            next(predict_images(nets["floats"], find_images(files), torch.device("cpu")))
        yield home, given, expected, json.loads(done.stdout)
    finally:
        os.chdir(before)
        sys.path.remove(str(home))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(called(name) for name in NETS), "floats"])
def test_the_script_says_what_predict_says(handed_out, name):
    _, given, expected, said = handed_out
    rows = list(csv.reader(said[name].splitlines(keepends=True)))
    assert not any(isinstance(each, Unreadable) for each in expected[name])
    assert [row[0] for row in rows] == (given[name] * 3 if name == "floats" else given[name])
    assert [row[1] for row in rows] == [each.top[0][0] for each in expected[name]]
    probabilities = [each.top[0][1] for each in expected[name]]
    assert np.abs([float(row[2]) for row in rows] - np.array(probabilities)).max() < 1e-5
    assert len(set(probabilities)) > 1  # the images differ, and so does what is said of them


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="this system has no SIGPIPE")
def test_the_script_ends_without_a_word_where_its_reader_has_gone(handed_out):
    home, *_ = handed_out
    command = [sys.executable, "floats/predict.py", "floats.npy"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        script.stdout.close()  # as `| head -n 0`
        assert script.stderr.read() == ""
    assert script.returncode == -signal.SIGPIPE


@pytest.fixture(scope="module")
def with_onnx(handed_out):
    """Writes the folder of a net anew with its ONNX model, once, and gives the net."""
    home, *_ = handed_out

    @functools.cache
    def write(name):
        net = load_net(read_study(open_database(f"sqlite:///{home}/studies.db"), name), load_settings().run)
        write_weights(net, home / name, onnx=True)
        return net

    return write


@needs_onnx
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_IN_ONNX)) for name in IN_ONNX]
)
def test_the_onnx_model_says_what_predict_says(handed_out, with_onnx, name):
    import onnxruntime

    home, given, expected, _ = handed_out
    pre = with_onnx(name).preprocessing
    model = onnxruntime.InferenceSession(home / name / "model.onnx", providers=["CPUExecutionProvider"])
    about = model.get_modelmeta().custom_metadata_map
    classes = json.loads(about["classes"])
    assert classes == list(pre.class_names)
    assert about["model.toml"] == (home / name / "model.toml").read_text()
    [images], [output] = model.get_inputs(), model.get_outputs()
    assert (images.name, images.shape[1:], output.name) == ("images", list(pre.shape), "probabilities")
    if name == "floats":
        x_NCHW = np.load(home / "floats.npy").astype(np.float32)
    else:
        x_NCHW = np.stack([decode(home / path, pre.file_recipe) for path in given[name]])
    for num in (1, len(x_NCHW)):
        [p_NC] = model.run(None, {"images": x_NCHW[:num]})
        assert p_NC.shape == (num, len(classes))
        found = p_NC.argmax(1)
        if (threshold := about.get("threshold")) is not None:
            found = (p_NC[:, 1] >= float(threshold)).astype(int)
        assert [classes[label] for label in found] == [each.top[0][0] for each in expected[name][:num]]
        p_N = p_NC[range(num), found]
        assert p_N == pytest.approx([each.top[0][1] for each in expected[name][:num]], abs=1e-5)


@needs_onnx
def test_an_onnx_model_says_nothing_of_where_it_was_made(handed_out, with_onnx):
    home, *_ = handed_out
    with_onnx("plainnets-tiny")
    model = (home / "plainnets-tiny" / "model.onnx").read_bytes()
    for place in (str(home), str(Path(torch.__file__).parent), "return nn.", "def forward"):
        assert place.encode() not in model


def test_a_folder_has_no_onnx_model_of_another_net(handed_out, tmp_path):
    home, *_ = handed_out
    (tmp_path / "model.onnx").write_bytes(b"another")
    net = load_net(read_study(open_database(f"sqlite:///{home}/studies.db"), "linear"), load_settings().run)
    files = write_weights(net, tmp_path)
    assert {*files} == {*tmp_path.iterdir()} == {tmp_path / name for name in FILES if name != "model.onnx"}


@pytest.mark.slow
@needs_onnx
def test_a_net_that_onnx_cannot_express_is_refused_in_two_lines(handed_out, monkeypatch):
    home, *_ = handed_out
    net = load_net(read_study(open_database(f"sqlite:///{home}/studies.db"), "plainnets-tiny"), load_settings().run)

    class Undecided(torch.nn.Module):
        def forward(self, x_BCHW):
            return x_BCHW.mean((2, 3)) if x_BCHW.mean() > 0 else x_BCHW.sum((2, 3))

    monkeypatch.setattr("hpsearch.search.trained_net.build", lambda *_: Undecided())
    monkeypatch.setattr(Undecided, "load_state_dict", lambda *_: None)
    with pytest.raises(ConfigError, match=r"cannot express the net plainnets:tiny in ONNX: .+\nAllowed: [^\n]+$"):
        onnx_model(net, "", {})


def test_without_onnx_the_extra_is_named(handed_out, monkeypatch):
    home, *_ = handed_out
    net = load_net(read_study(open_database(f"sqlite:///{home}/studies.db"), "linear"), load_settings().run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'--onnx needs the package onnx.\n.*pip install "hpsearch\[onnx\]"'):
        onnx_model(net, "", {})


def test_the_script_is_plain_and_short(handed_out):
    home, *_ = handed_out
    for name in NETS:
        script = (home / called(name) / "predict.py").read_text()
        assert "import hpsearch" not in script
        assert "from hpsearch" not in script
        assert max(map(len, script.splitlines())) <= 120
        assert len(script.splitlines()) < (130 if name.endswith(("fixup", "early")) else 100)
    scripts = [str(home / called(name) / "predict.py") for name in NETS]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E4,E7,F,I,UP", "--output-format", "json"]
    found = json.loads(subprocess.run([*ruff, *scripts], capture_output=True, text=True).stdout)
    [users] = found  # whose import follows a change of sys.path
    assert (users["code"], users["filename"]) == ("E402", str(home / "plainnets-tiny" / "predict.py"))


def test_pictures_are_the_images_again(handed_out):
    """What the report shows is what the files hold, whatever the normalization."""
    home, *_ = handed_out
    for name in ("mlp", "lenet", "convnet"):
        db = open_database(f"sqlite:///{home}/studies.db")
        net = load_net(read_study(db, name), load_settings().run)
        x_NCHW = np.random.default_rng(0).integers(0, 256, (2, *net.preprocessing.shape)).astype(np.uint8)
        pictures = net.preprocessing.pictures(net.preprocessing.normalize(x_NCHW, torch.empty(0)))
        assert (pictures == x_NCHW.transpose(0, 2, 3, 1)).all()


def test_weights_that_are_not_kept_are_said_to_be_so(db, tiny):
    settings = tiny(run__keep="none", coarse__trials=1, space=["lr=log(1e-4,1e-3)", "reg=none"])
    evidence = run_stage(db, plan_coarse(settings), settings.run, checks=False)
    with pytest.raises(RefusedError, match=r"not kept.\nAllowed: a search with --keep best"):
        load_net(evidence, settings.run)
    [trial] = evidence.trials
    at_a_rung = replace(trial, attrs={**trial.attrs, attributes.REASON: attributes.HALVED}, intermediate={1: 0.5})
    train = r"ended after 1 epoch, not its last one.\nTrain it: hpsearch best coarse .+ train -c .+ --epochs 1$"
    with pytest.raises(RefusedError, match=train):
        load_net(replace(evidence, trials=[at_a_rung]), settings.run)
    exploded = replace(trial, state="PRUNED", intermediate={})
    with pytest.raises(RefusedError, match=r"ended after 0 epochs, .+\nAllowed: a trial that came to its last epoch"):
        load_net(replace(evidence, trials=[trial, replace(exploded, number=1)]), settings.run, 1)
