"""The script of `best -f py` is the search's own training: the same images, net, updates and values."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.study_trials import read_study
from hpsearch.config import load_settings
from hpsearch.datasets.augmentation import augment, draw_noise
from hpsearch.datasets.draws import Draws
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.models import build, build_initialized, drawn_weight_names
from hpsearch.search.stage_run import run_stage
from hpsearch.search.stored_trials import find_trial
from hpsearch.search.training_script import script, training_script
from hpsearch.search.training_script.unwritten import refuse_unwritten
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database, read_epochs
from hpsearch.training.images import load_images

SYNTHETIC = {"shape": [1, 8, 8], "classes": 3, "train": 61, "test": 9, "noise": 1.0}
FLAGS = {
    "data.source": "synthetic",
    "data.synthetic": SYNTHETIC,
    "train.batch_size": 8,
    "train.metric": "loss",
    "train.precision": "float64",
    "coarse.trials": 1,
    "coarse.epochs": 3,
    "run.device": "cpu",
    "run.threads": 1,
    "run.keep": "none",
}


class Searched:
    """A study of one trial, its script, and the images that it was trained on."""

    def __init__(self, tmp_path, *, lr=0.05, **keys):
        flags = {**FLAGS, **{key.replace("__", "."): value for key, value in keys.items()}}
        settings = load_settings(flags=flags, spaces=[f"lr=log({lr}, {lr * 1.001})", "reg=none"])
        self.db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
        run_stage(self.db, plan_coarse(settings, "coarse"), settings.run, checks=False)
        self.evidence = read_study(self.db, "coarse")
        self.stored = find_trial(self.evidence, best_or_refuse(self.evidence).number)
        self.config = self.stored.config
        self.text = training_script(self.evidence, settings.run)
        self.data = load_images(self.config, settings.run, as_features=False)

    def values(self):
        """Of its epochs, by the metric."""
        [epochs] = read_epochs(self.db, self.evidence.study).values()
        return [epoch.val_score for epoch in epochs]

    def prepared(self):
        """What the script has before it trains."""
        space = {}
        exec(self.text.partition("# --- Training")[0], space)
        return space

    def trained(self, monkeypatch, space):
        """Its values, where it begins with the search's initial weights and has the search's order of images."""
        config, data = self.config, self.data
        net = build_initialized(
            config.model, data.shape, data.num_classes, config.train.seed, data.train_sample(100)[0]
        )
        state = net.state_dict()
        for name in drawn_weight_names(net):
            state[name] *= config.model.init_scale
        space["net"].load_state_dict(state)
        orders = [data.epoch(config.train.seed, n, config.train.batch_size).order_M for n in range(1, 9)]
        with monkeypatch.context() as patched, contextlib.redirect_stdout(io.StringIO()):
            patched.setattr(torch, "randperm", lambda num: orders.pop(0))
            exec(self.text.partition("# --- Training")[2], space)
        return [-value for value in space["values"]] if "-value" in self.text else space["values"]


TRAININGS = {
    "momentum": {"train__reg": 0.01},
    "sgd": {"train__optimizer": "sgd", "train__l1": 0.001, "train__reg": 0.01},
    "nesterov": {"train__optimizer": "nesterov", "train__lr_schedule": "step", "train__lr_step": 2},
    "adam": {"train__optimizer": "adam", "train__reg": 0.01, "lr": 0.01, "train__lr_schedule": "cosine"},
    "adamw": {"train__optimizer": "adamw", "train__weight_decay": 0.1, "train__reg": 0.01, "lr": 0.01},
    "nadam": {"train__optimizer": "nadam", "lr": 0.01, "train__lr_schedule": "linear"},
    "rmsprop": {"train__optimizer": "rmsprop", "lr": 0.001, "train__lr_schedule": "constant"},
    "adagrad": {"train__optimizer": "adagrad", "train__lr_schedule": "inverse-sqrt"},
    "lion": {"train__optimizer": "lion", "lr": 0.001, "train__weight_decay": 0.1, "train__lr_schedule": "sgdr"},
    "one-cycle": {"train__lr_schedule": "one-cycle", "train__lr_period": 1},
    "clipped": {"train__clip_norm": 0.5, "train__reg": 0.1, "train__warmup": 0.7},
    "averaged": {"train__ema": 0.9, "model__name": "convnet", "model__channels": [4], "model__norm": "batch"},
    "weighed": {"train__class_weights": "balanced", "train__label_smoothing": 0.1},
    "focal": {"train__class_weights": "balanced", "train__focal": 2.0, "train__label_smoothing": 0.1},
    "focal alone": {"train__focal": 0.5},
    "accumulated": {"train__accumulate": 3, "train__reg": 0.01, "train__l1": 0.001, "train__class_weights": "balanced"},
    "parts": {"train__body_lr": 0.5, "train__layer_decay": 0.7, "model__hidden": [6, 5], "train__reg": 0.01},
    "scaled": {"model__init_scale": 1.5, "model__norm": "batch"},
    "single": {"train__batch_size": 12, "train__patience": 2},
}  # fmt: skip

QUICK = ("momentum", "adamw", "one-cycle", "clipped", "averaged", "focal", "accumulated", "parts")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in TRAININGS if n not in QUICK)]
)
def test_its_updates_are_those_of_the_search(tmp_path, monkeypatch, name):
    """In float64, from the same weights, over the same minibatches: each epoch's loss is the same."""
    found = Searched(tmp_path, **TRAININGS[name])
    expected = found.values()
    assert len(expected) == 3
    assert len(set(expected)) == 3
    np.testing.assert_allclose(found.trained(monkeypatch, found.prepared()), expected, rtol=1e-8)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auroc", "top5"])
def test_its_metric_is_that_of_the_search(tmp_path, monkeypatch, metric):
    classes = {**SYNTHETIC, "classes": 7, "train": 90}
    found = Searched(tmp_path, train__metric=metric, data__synthetic=classes, data__val=30)
    np.testing.assert_allclose(found.trained(monkeypatch, found.prepared()), found.values(), rtol=1e-12)


NETS = {
    "linear": {},
    "mlp": {"hidden": [6, 5], "norm": "layer", "dropout": 0.3, "dropconnect": 0.2},
    "lenet": {"activation": "tanh", "init": "lecun98", "dropout": 0.2},
    "convnet": {"channels": [4, 6], "norm": "group", "groups": 2, "activation": "leaky_relu", "init": "he-out"},
    "convnet all": {"channels": [4], "pool": "average", "dropout": 0.2, "dropout_at": "all", "init": "orthogonal"},
    "convnet lsuv": {"channels": [4], "norm": "batch", "init": "lsuv", "init_bias": 0.1},
    "resnet": {"depth": 8, "stochastic_depth": 0.5, "dropout": 0.1, "dropconnect": 0.2, "init": "xavier-uniform"},
    "resnet none": {"depth": 8, "norm": "none", "init": "small:0.01"},
    "resnet fixup": {"depth": 8, "norm": "none", "init": "fixup", "stochastic_depth": 0.3},
    "torchvision:squeezenet1_1": {"hidden": [5], "dropout": 0.2},
    "torchvision:shufflenet_v2_x0_5": {"freeze": "all", "dropout": 0.2},
}  # fmt: skip
FOR_32 = ("torchvision",)
LONG = ("torchvision", "resnet none", "resnet fixup")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * n.startswith(LONG)) for n in NETS])
def test_its_net_is_that_of_the_search(tmp_path, name):
    model = {f"model__{key}": value for key, value in NETS[name].items()}
    large = {"data__synthetic": {**SYNTHETIC, "shape": [1, 32, 32]}} if name.startswith(FOR_32) else {}
    found = Searched(tmp_path, model__name=name.partition(" ")[0], lr=1e-3, coarse__epochs=1, **model, **large)
    space, config = found.prepared(), found.config.model
    net = build(config, found.data.shape, 3).double()
    drawn = {name: tensor.clone() for name, tensor in space["net"].state_dict().items()}
    own = dict(space["net"].named_parameters())
    assert {n: (p.shape, p.requires_grad) for n, p in own.items()} == {
        n: (p.shape, p.requires_grad) for n, p in net.named_parameters()
    }
    begun = build_initialized(config, found.data.shape, 3, 5, found.data.train_sample(100)[0])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    space["net"].load_state_dict(net.state_dict())
    x_BCHW = found.data.x_val_NCHW[:5]
    torch.testing.assert_close(space["net"].eval()(x_BCHW), net.eval()(x_BCHW))
    noisy = any(config.model_dump()[key] for key in ("dropout", "dropconnect", "stochastic_depth"))
    space["net"].train()
    assert noisy != torch.equal(space["net"](x_BCHW), space["net"](x_BCHW))
    # Initial weights are other ones, as wide.
    for key, expected in begun.state_dict().items():
        if key in own and expected.numel() >= 300 and expected.ndim > 1 and own[key].requires_grad:
            assert float(drawn[key].std()) == pytest.approx(float(expected.std()), rel=0.25, abs=1e-6), key
        elif key in own and expected.ndim <= 1 and not config.init_bias and own[key].requires_grad:
            assert torch.equal(drawn[key].double(), expected), key


def draw_folder(folder, num=6):
    rng = np.random.default_rng(3)
    for label in ("b", "a", "c"):
        for place in range(num):
            path = folder / label / f"some{place % 2}" / f"{place:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)).save(path)
    (folder / "a" / ".hidden.png").write_bytes(b"")


def draw_table(path, *, split=None):
    files = [file for file in sorted((path.parent / "all").rglob("*.png")) if not file.name.startswith(".")]
    lines = ["file; diagnosis; part" if split else "file; diagnosis"]
    for place, file in enumerate(files):
        row = [file.relative_to(path.parent).as_posix(), file.parts[-3]]
        lines.append("; ".join([*row, *([split[place % len(split)]] if split else [])]))
    path.write_text("\n".join(lines[:1] + lines[:0:-1]) + "\n\n")


SOURCES = {
    "digits": {"normalize": "feature", "limit": 400, "val": 60},
    "synthetic": {"normalize": "pixel", "seed": 4},
    "folder:all": {"resize": "crop"},
    "folder:divided": {"size": 8, "limit": 15, "scale": 255.0, "normalize": "pixel"},
    "csv:table.csv": {},
    "csv:divided.csv": {"csv.split": "part", "normalize": "none"},
    "npz:bytes.npz": {"val": 9},
    "npz:grouped.npz": {"group": "patient", "limit": 50},
}


@pytest.mark.parametrize("source", SOURCES)
def test_its_images_are_those_of_the_search(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "all", 8)
    for split in ("train", "val"):
        draw_folder(tmp_path / "divided" / split)
    draw_table(tmp_path / "table.csv")
    draw_table(tmp_path / "divided.csv", split=["train", "Val", "train", "test"])
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    np.savez(
        "bytes.npz", x_train=rng.integers(0, 256, (60, 5, 5, 3)).astype(np.uint8), y_train=np.array(list("xyz"))[y]
    )
    np.savez("grouped.npz", x_train=rng.normal(size=(60, 7)), y_train=np.eye(3)[y], patient=rng.integers(0, 25, 60))
    data = {f"data__{key}".replace(".", "__"): value for key, value in SOURCES[source].items()}
    found = Searched(tmp_path, data__source=source, model__name="linear", lr=1e-4, coarse__epochs=1, **data)
    space, data = found.prepared(), found.data
    for own, expected in ((space["x_val"], data.x_val_NCHW), (space["x_train"], data.train_images())):
        torch.testing.assert_close(space["normalize"](own), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(space["y_train"], data.y_train_N)
    assert torch.equal(space["y_val"], data.y_val_N)
    assert space["class_names"] == list(data.class_names)


KINDS = (
    "hflip", "vflip", "crop:2", "scale:0.4", "translate:0.2", "rotate:40", "brightness:0.4", "contrast:0.4",
    "saturation:0.4", "hue:0.1", "pca:1", "noise:0.1", "elastic:1", "cutout:3", "gridmask:2", "autoaugment:cifar10",
    "randaugment:2,9", "trivialaugment",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_augmentation_is_distributed_as_in_the_search(tmp_path, kind):
    """Mean and width of each pixel over many draws, within five standard errors of what the search draws."""
    large = {**SYNTHETIC, "shape": [3, 8, 8]}
    found = Searched(tmp_path, data__augment=[kind], data__synthetic=large, model__name="linear", coarse__epochs=1)
    space, data, num = found.prepared(), found.data, 1000
    row = torch.zeros(num, dtype=torch.int64)
    x_NCHW, y_N = space["minibatch"](row)
    draws = Draws(num, data.shape, ((0, num),), torch.Generator().manual_seed(1))
    noise = draw_noise(kind, num, draws.generator, draws)
    image = data.x_train_NCHW[row]
    pixels = data.pixels
    expected = augment(kind, image if pixels is None else pixels.of_normalized(image), noise, pixels)
    expected = expected if pixels is None else pixels.normalized(expected)
    assert (y_N == data.y_train_N[0]).all()
    for of in (lambda x: x, torch.square):
        one, other = of(x_NCHW), of(expected)
        error = ((one.var(0) + other.var(0)) / num).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() <= 5 * error + 1e-5).all(), kind  # the search draws in float32


@pytest.mark.parametrize("kinds", [["hflip", "mixup:0.4"], ["cutmix:1", "hflip"]])
def test_mixed_labels_have_the_shares_of_their_images(tmp_path, kinds):
    found = Searched(tmp_path, data__augment=kinds, train__label_smoothing=0.1, train__focal=1.0, train__accumulate=2)
    space = found.prepared()
    space["x_train"][:] = space["y_train"][:, None, None, None].to(space["x_train"])
    for _ in range(5):
        x_BCHW, y_B, other_B, share = space["minibatch"](torch.arange(8))
        pixels = (x_BCHW * space["std"] + space["mean"]).mean((1, 2, 3))
        torch.testing.assert_close(pixels, share * y_B.double() + (1 - share) * other_B.double())
    with contextlib.redirect_stdout(io.StringIO()):
        exec(found.text.partition("# --- Training")[2], space)
    assert len(space["values"]) == 3


def test_balanced_sampling_has_as_many_of_each_class(tmp_path):
    found = Searched(tmp_path, data__sampling="balanced", data__source="synthetic")
    space = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(found.text, space)
    counts = torch.bincount(space["y_train"][space["epoch_order"]()])
    assert int(counts.max() - counts.min()) <= 1
    assert int(counts.sum()) == len(space["y_train"])


USERS = """
import numpy as np
from torch import nn
def images(num=60):
    y = np.arange(num) % 3
    return np.random.default_rng(0).normal(size=(num, 1, 4, 4)) + y[:, None, None, None], y
def net(shape, num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Tanh(), nn.Linear(width, num_classes))
def odds(scores, labels):
    return float(scores[range(len(labels)), labels].mean())
"""


def test_code_of_the_users_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "scriptnets.py").write_text(USERS)
    own = {"data__source": "scriptnets:images", "model__name": "scriptnets:net", "train__metric": "scriptnets:odds"}
    found = Searched(tmp_path, **own, **{"model__options": {"width": 5}})
    assert "net = net((1, 4, 4), 3, width=5)" in found.text
    np.testing.assert_allclose(found.trained(monkeypatch, found.prepared()), found.values(), rtol=1e-9)


def test_a_script_is_refused_where_it_would_be_another_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "_images", lambda *_: pytest.fail("images were read before it was refused"))
    with pytest.raises(ConfigError, match=r"data\.folds = 3 trains 3 nets, and a script trains one\.\nAllowed: "):
        Searched(tmp_path, data__folds=3)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"data.folds": 3}, r"data\.folds = 3 trains 3 nets"),
        ({"train.loss": "hinge"}, r"train\.loss = 'hinge' is not written into a script\.\nAllowed: -f toml"),
        ({"data.augment": ["flips:mirrored"]}, r"data\.augment = 'flips:mirrored' is not written"),
        (
            {"data.augment": ["hue:0.1"]},
            r"data\.augment has hue:0\.1 of images of 2 channels.*\nAllowed: ",
        ),
    ],
)
def test_what_is_not_written_is_known_from_the_config_alone(keys, said):
    config = load_settings(flags={**FLAGS, **keys}, spaces=["reg=none"]).study
    with pytest.raises(ConfigError, match=said):
        refuse_unwritten(config, 2)


def test_a_step_of_the_users_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "scriptsteps.py").write_text(
        "from torch.nn.functional import cross_entropy\n"
        "def step(model, batch, params):\n    return cross_entropy(model(batch[0]), batch[1])\n"
    )
    with pytest.raises(
        ConfigError, match=r"train\.step = 'scriptsteps:step', which takes .* is not written.*\nAllowed: "
    ):
        Searched(tmp_path, train__step="scriptsteps:step")


def test_other_images_than_those_of_the_search_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("a.npz", x_train=rng.normal(size=(60, 7)), y_train=np.arange(60) % 3)
    found = Searched(tmp_path, data__source="npz:a.npz", model__name="linear")
    np.savez("a.npz", x_train=rng.normal(size=(60, 7)), y_train=np.arange(60) % 3)
    with pytest.raises(RefusedError, match=r"does not hold the images that 'coarse' was trained on"):
        training_script(found.evidence, load_settings().run)
