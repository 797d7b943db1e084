"""train.step: a loss of the user's own, exact against an ordinary loop, whatever the engine and the company."""

import sys

import numpy as np
import pytest
import torch
from plain_training import make_data
from torch.nn.functional import cross_entropy

from hpsearch.config import StudyConfig, load_settings, usercode
from hpsearch.config.study import validate
from hpsearch.config.usercode import UserCodeError, names_in, trust
from hpsearch.errors import ConfigError
from hpsearch.models import build_initialized
from hpsearch.results import TrialSpec
from hpsearch.runtime import step_seed
from hpsearch.training import Pack, group
from hpsearch.training.user_nets import refuse_user_code

MODULE = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

class TwoHeads(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.code, self.norm = nn.Linear(size, 6), nn.BatchNorm1d(6)
        self.back, self.fc = nn.Linear(6, size), nn.Linear(6, num_classes)

    def encode(self, x):
        return torch.tanh(self.norm(self.code(x.flatten(1))))

    def forward(self, x):
        return self.fc(self.encode(x))

def rebuild(model, batch, params):
    images, labels = batch
    code = model.encode(images)
    return cross_entropy(model.fc(code), labels) + params["alpha"] * mse_loss(model.back(code), images.flatten(1))

def views(model, batch, params):
    images, labels = batch
    one, other = (model(images + params["width"] * torch.randn_like(images)) for _ in range(2))
    return cross_entropy(one, labels, reduction="none") + params["alpha"] * (one - other).square().mean(1)

def deciding(model, batch, params):
    loss = cross_entropy(model(batch[0]), batch[1])
    return loss * 2 if loss.item() > 0 else loss

def logits(model, batch, params):
    return model(batch[0])

def nothing(model, batch, params):
    pass

def detached(model, batch, params):
    return cross_entropy(model(batch[0]), batch[1]).detach()

def failing(model, batch, params):
    return params["beta"]
"""


@pytest.fixture(autouse=True)
def steps(tmp_path, monkeypatch):
    (tmp_path / "ownsteps.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(usercode, "_trusted", set())
    trust("ownsteps")
    yield
    sys.modules.pop("ownsteps", None)


def config(step, epochs=3, options=None, **train):
    plain = {"batch_size": 6, "epochs": epochs, "precision": "float64", "reg": 0.01, **train}
    plain |= {"step": f"ownsteps:{step}", "step_options": options or {"alpha": 0.5, "width": 0.1}}
    space = {"train.step_options.alpha": {"uniform": [0, 1]}}
    return validate(StudyConfig, {"model": {"name": "ownsteps:TwoHeads"}, "train": plain, "space": space})


def plain_losses(given, data, function, lr):
    """The hold-out's cross-entropy after each epoch of an ordinary loop."""
    train = given.train
    net = build_initialized(given.model, data.shape, data.num_classes, train.seed)
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": train.reg}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr, train.momentum)
    counts, losses = torch.bincount(data.y_train_N).double(), []
    for epoch in range(1, train.epochs + 1):
        net.train()
        for step, batch in enumerate(data.batches(train.seed, epoch, train.batch_size)):
            torch.manual_seed(step_seed(train.seed, epoch, step))
            loss = function(net, batch, train.step_options)
            if loss.ndim:
                weigh = (1 / counts)[batch[1]] if train.class_weights == "balanced" else torch.ones_like(loss)
                loss = (loss * weigh).sum() / weigh.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for each in optimizer.param_groups:
            each["lr"] *= train.lr_decay
        net.eval()
        with torch.no_grad():
            losses.append(cross_entropy(net(data.x_val_NCHW), data.y_val_N).item())
    return losses


def pack_losses(pack):
    losses = {}
    while not pack.done:
        for result in pack.run_epoch().results:
            losses.setdefault(result.number, []).append(result.val_loss)
    return losses


@pytest.mark.parametrize("engine", ["loop", "vmap"])
@pytest.mark.parametrize("step", ["rebuild", "views"])
def test_trials_of_mixed_alpha_are_each_an_ordinary_loop(step, engine):
    """The noise of the two views is that of the step's seed, the same alone and in company."""
    data, balanced = make_data(), {"class_weights": "balanced"} if step == "views" else {}
    given = config(step, **balanced)
    values = [{"train.step_options.alpha": alpha, "lr": lr} for alpha, lr in ((0.0, 0.01), (2, 0.03))]
    specs = [TrialSpec(number, params) for number, params in enumerate(values)]
    assert len(group(given, specs)) == 1
    pack = Pack(given, data, specs, engine=engine)
    assert pack.engine == engine
    found, function = pack_losses(pack), usercode.load(f"ownsteps:{step}")
    for spec in specs:
        expected = plain_losses(given.with_params(spec.params), data, function, spec.params["lr"])
        np.testing.assert_allclose(found[spec.number], expected, rtol=1e-9)
    assert found[0] != found[1]


def test_a_trial_goes_on_from_a_snapshot_and_comes_into_a_place_that_is_free(rehearsed):
    """In loop, whose steps graph records: what is there is overwritten in place."""
    data, given = make_data(), config("rebuild", lr=0.02)
    specs = [TrialSpec(n, {"train.step_options.alpha": alpha}) for n, alpha in enumerate((0.0, 1.0, 3.0))]
    alone = {spec.number: pack_losses(Pack(given, data, [spec], engine="loop"))[spec.number] for spec in specs}
    pack = Pack(given, data, specs[:2], engine="graph", refills=True)
    assert pack.engine == "graph"
    losses = {n: [] for n in range(3)}
    for _ in range(2):
        for result in pack.run_epoch().results:
            losses[result.number].append(result.val_loss)
    snapshot = pack.snapshot(1)
    pack.drop([0])
    pack.admit(specs[2:])
    while not pack.done:
        for result in pack.run_epoch().results:
            losses[result.number].append(result.val_loss)
        pack.drop([n for n in pack.numbers if pack.epochs_of(n) == 3])
    for number in (1, 2):
        np.testing.assert_allclose(losses[number], alone[number], rtol=1e-9)
    again = Pack(given, data, specs[1:2], engine="vmap", snapshots={1: snapshot})
    np.testing.assert_allclose(pack_losses(again)[1], alone[1][2:], rtol=1e-9)


def test_what_vmap_cannot_take_goes_to_loop_with_the_reason(caplog):
    plain = config("deciding").plain()
    plain["model"] = {"name": "mlp"}
    given = validate(StudyConfig, plain)
    pack = Pack(given, make_data(), [TrialSpec(0)], engine="auto")
    assert pack.engine == "loop"
    assert "fused cannot train model mlp, so vmap does: train.step = 'ownsteps:deciding'" in caplog.text
    assert "vmap cannot train model mlp, so loop does: " in caplog.text
    with pytest.raises(UserCodeError, match=r"engine vmap cannot train model mlp: .*\nAllowed: run\.engine = loop"):
        refuse_user_code(given, make_data(), "vmap")


@pytest.mark.parametrize(
    ("step", "match"),
    [
        ("logits", r"^ownsteps:logits returned torch\.float64 of shape \[2, 4\] for 2 images\.\nAllowed: the loss"),
        ("nothing", r"^ownsteps:nothing returned NoneType for 2 images\.\n"),
        ("detached", r"^ownsteps:detached: called with the net, two images .* raised RuntimeError: .*does not require"),
        ("failing", r"(?s)^ownsteps:failing: called with .* raised KeyError: 'beta'\n.*in failing"),
    ],
)
def test_a_step_that_gives_no_loss_is_refused_before_the_first_trial(step, match):
    with pytest.raises(UserCodeError, match=match):
        refuse_user_code(config(step), make_data(), "auto")


def test_what_would_do_nothing_beside_a_step_is_refused():
    with pytest.raises(ConfigError, match=r"train\.focal = 1\.0 is of our own loss.*\nAllowed: train\.focal = 0"):
        config("rebuild", focal=1.0)
    with pytest.raises(ConfigError, match=r"Allowed: numbers, so not mode = 'x'"):
        config("rebuild", options={"mode": "x"})
    mixed = config("rebuild").with_params({"data.augment": ["mixup:0.2"]})
    with pytest.raises(ConfigError, match=r"data\.augment has mixup:0\.2, which mixes labels"):
        refuse_user_code(mixed, make_data(), "auto")
    with pytest.raises(UserCodeError, match=r"one loss for all images, so train\.class_weights"):
        refuse_user_code(config("rebuild", class_weights="balanced"), make_data(), "auto")


def test_it_is_code_to_be_trusted_and_no_part_of_studies_from_before():
    assert names_in(config("rebuild").plain()) == {"ownsteps:rebuild", "ownsteps:TwoHeads"}
    assert not {"step", "step_options"} & StudyConfig().plain()["train"].keys()
    found = load_settings(sets=["train.step=ownsteps:rebuild"], spaces=["train.step_options.alpha=uniform(0,1)"]).study
    assert 0 <= found.for_stage("coarse").train.step_options["alpha"] <= 1
