"""`model.name = "module:function"`: nets that hpsearch has never seen, trained like its own."""

import sys

import numpy as np
import pytest
import torch

from hpsearch.config import StudyConfig, load_settings, usercode
from hpsearch.config.hyperparameters import canonical_name, is_vector
from hpsearch.config.study import validate
from hpsearch.config.template import commented_study_file
from hpsearch.config.usercode import UserCodeError, names_in, source_hashes, trust
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.normalization import Normalization
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.models import build, build_initialized, weight_names
from hpsearch.results import TrialSpec
from hpsearch.training import Pack, group
from hpsearch.training.activations import compare_inits

MODULE = """
import torch
from os import system
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, num_classes, width=8, rate=0.0):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(rate)
        self.scale = nn.Parameter(torch.ones(width))
        self.fc = nn.Linear(width * shape[1] * shape[2], num_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x))) * self.scale[:, None, None]
        return self.fc(self.drop(x.view(x.size(0), -1)))  # a view: no channels-last tensor would do

class Tied(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.a, self.b, self.head = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, num_classes)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x.flatten(1))))))

class Recurrent(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.rnn, self.head = nn.LSTM(shape[2], 5, batch_first=True), nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.head(self.rnn(x[:, 0])[0][:, -1])

class Squeezing(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)).squeeze()

def frozen(shape, num_classes):
    net = Net(shape, num_classes)
    net.conv.weight.requires_grad_(False)
    return net

def flat(shape, num_classes, extra=0):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes + extra))

def squeezing(shape, num_classes):
    return Squeezing(shape[0] * shape[1] * shape[2], num_classes)

def weightless(shape, num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(1))

def no_net(shape, num_classes):
    return "a net"

def broken(shape, num_classes, width=3):
    return _inner(width)

def _inner(width):
    raise ValueError(f"width must be even, got {width}")

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the working folder; everything is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(usercode, "_trusted", set())
    before = set(sys.modules)

    def write(name="mynets", text=MODULE):
        (tmp_path / f"{name}.py").write_text(text)
        return tmp_path / f"{name}.py"

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def nets(module):
    module()
    trust("mynets")


def config(name, train=None, **options):
    plain = {"model": {"name": name, "options": options}, "train": {"batch_size": 8, "epochs": 3, **(train or {})}}
    return validate(StudyConfig, plain)


def images(num=40, num_classes=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(num) % num_classes
    x = torch.randn(num, 1, 6, 6, generator=generator, dtype=dtype) + y[:, None, None, None]
    normalization = Normalization(np.zeros((1, 1, 1)), np.ones((1, 1, 1)), 1.0, False)
    names = tuple(map(str, range(num_classes)))
    return TrainingData(x[:30], y[:30], x[30:], y[30:], (1, 6, 6), names, normalization, (), "f")


def curves(pack):
    found = {}
    while not pack.done:
        for result in pack.run_epoch().results:
            found.setdefault(result.number, []).append((result.cost, result.val_loss, result.update_ratio))
    return found


def test_a_class_or_a_function_is_a_net_like_any_other(nets):
    for name in ("mynets:Net", "mynets:flat", "mynets:frozen", "mynets:Recurrent", "mynets:Tied"):
        pack = Pack(config(name, {"precision": "float64"}), images(), [TrialSpec(0, {"lr": 0.05})])
        found = curves(pack)[0]
        assert found[-1][0] < found[0][0], name
        net = build(config(name).model, (1, 6, 6), 3).double()
        net.load_state_dict(pack.state(0, "last"))  # strict: tied weights have both of their names
        net.eval()
        data = images()
        loss = torch.nn.functional.cross_entropy(net(data.x_val_NCHW), data.y_val_N).detach()
        assert float(loss) == pytest.approx(found[-1][1], rel=1e-9), name


def test_the_initialization_is_the_users_own_seeded_and_the_callers_chance_is_left_alone(nets):
    def weights(seed):
        net = build_initialized(config("mynets:Net").model, (1, 6, 6), 3, seed)
        return net.state_dict()

    torch.manual_seed(123)
    expected = torch.rand(1)
    torch.manual_seed(123)
    once, again, other = weights(7), weights(7), weights(8)
    assert torch.rand(1) == expected
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["conv.weight"], other["conv.weight"])
    torch.manual_seed(7)
    from mynets import Net

    own = Net((1, 6, 6), 3).double().state_dict()
    assert all(torch.equal(once[name], own[name]) for name in own)  # scale is 1, statistics are fresh


def test_init_and_fans_are_not_applied_to_it(nets):
    small = config("mynets:Net").with_params({"model.init": "small:1e-9"}).model
    assert float(build_initialized(small, (1, 6, 6), 3, 0).state_dict()["fc.weight"].std()) > 0.01
    [only] = compare_inits(small, 0, torch.randn(10, 1, 6, 6), 3)
    assert only.init == "its own"


def test_weights_are_its_parameters_of_two_dimensions_that_are_trained(nets):
    net = build(config("mynets:frozen").model, (1, 6, 6), 3)
    assert weight_names(net) == ["fc.weight"]
    assert weight_names(build(config("mynets:Net").model, (1, 6, 6), 3)) == ["conv.weight", "fc.weight"]


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_frozen_parameters_stay(nets, engine):
    pack = Pack(config("mynets:frozen"), images(dtype=torch.float32), [TrialSpec(0, {"reg": 1.0})], engine=engine)
    before = pack.state(0)
    pack.run_epoch()
    after = pack.state(0)
    assert torch.equal(before["conv.weight"], after["conv.weight"])
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    assert not torch.equal(before["norm.bias"], after["norm.bias"])


def test_dropout_of_torch_is_the_same_for_both_engines_and_any_pack(nets):
    """Its noise comes from the seed of the step: alone, among others, with loop or vmap."""
    both = [TrialSpec(0, {"lr": 0.01}), TrialSpec(1, {"lr": 0.1})]
    start = config("mynets:Net", {"precision": "float64"}, rate=0.5)
    data = images()
    alone = curves(Pack(start, data, both[:1], engine="loop"))[0]
    for engine in ("loop", "vmap"):
        np.testing.assert_allclose(curves(Pack(start, data, both, engine=engine))[0], alone, rtol=1e-9)
    without = config("mynets:Net", {"precision": "float64"}, rate=0.0)
    assert curves(Pack(without, data, both[:1]))[0][0][0] != alone[0][0]


def test_options_are_structural_hyperparameters(nets):
    assert canonical_name("model.options.width") == "model.options.width"
    assert not is_vector("model.options.width")
    start = load_settings(
        stored={"model": {"name": "mynets:Net"}}, spaces=["model.options.width=int(4, 8)", "lr=log(1e-3, 1e-1)"]
    ).study
    trial = start.for_stage("coarse")
    assert trial.model.options == {"width": 4}  # so that there is a net to look at before the first trial
    groups = group(trial, [TrialSpec(n, {"model.options.width": w}) for n, w in enumerate((4, 5, 4))])
    assert [(c.model.options["width"], len(specs)) for c, specs in groups] == [(4, 2), (5, 1)]
    net = build(groups[1][0].model, (1, 6, 6), 3)
    assert net.conv.weight.shape[0] == 5
    assert hash(groups[1][0].data) == hash(trial.data)
    assert start.with_params({"model.options.width": 6, "model.options.rate": 0.5}).model.options == {
        "width": 6,
        "rate": 0.5,
    }


def test_configs_without_options_are_what_they_were():
    """And so are the fingerprints of searches made before there were any."""
    plain = StudyConfig().plain()
    assert "options" not in plain["model"]
    assert "options" not in plain["data"]
    assert "options = {}" in commented_study_file()


@pytest.mark.parametrize(
    ("sets", "match"),
    [
        (
            ["model.name=mpl"],
            r"model\.name = 'mpl' is not allowed\. Did you mean 'mlp'\?\n.*linear, mlp, .*MODULE:FUNCTION",
        ),
        (["model.name=my-nets:small"], r"model\.name = 'my-nets:small'"),
        (["model.name=nets:a.b"], r"'nets:a\.b'"),
        (["model.name=nets:"], r"'nets:'"),
        (["model.name=../nets:small"], r"nets:small"),
        (["data.source=folder:"], r"folder:"),
        (["data.source=my data:make"], r"MODULE:FUNCTION"),
        (["model.options.width={}"], r"model\.options"),
        (['model.options={"a b": 1}'], r"'a b' cannot be the name of an argument"),
    ],
)
def test_what_is_no_name_or_option_is_refused_by_the_config(sets, match):
    with pytest.raises(ConfigError, match=match):
        load_settings(sets=sets)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("mynetz:Net", r"^mynetz:Net: there is no module 'mynetz'\.\nLooked in "),
        ("mynets.py:Net", r"^mynets\.py:Net: code is named by its module, not by its file\.\nAllowed: mynets:Net\.$"),
        ("mynets.deeper:Net", r"^mynets\.deeper:Net: .*mynets"),
        ("mynets:Nat", r"'Nat' is not there in .*mynets\.py\. Did you mean 'Net'\?\nIt defines: .*Tied"),
        ("mynets:number", r"'number' is a \w+, no function,"),
        ("mynets:no_net", r"mynets:no_net gave str\.\nAllowed: a torch\.nn\.Module"),
        ("mynets:weightless", r"(?s)shape \[2, 1\] for images of \[2, 1, 6, 6\]\.\nAllowed: floats of shape \[2, 3\]"),
        ("mynets:squeezing", r"shape \[3\] for images of \[1, 1, 6, 6\]\.\nAllowed: .*\[1, 3\]"),
        (
            "mynets:broken",
            r"(?s)^mynets:broken: calling it with \(1, 6, 6\), 3 raised ValueError: width must be even, got 3\n"
            r'  File ".*mynets\.py", line \d+, in broken\n.*, in _inner\n    raise ValueError',
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_users_frames_alone(nets, name, match):
    trust(name)
    with pytest.raises(UserCodeError, match=match) as caught:
        build(config(name).model, (1, 6, 6), 3)
    assert caught.value.exit_code == 2
    assert "usercode.py" not in str(caught.value)


def test_a_module_may_be_named_py(nets, tmp_path, monkeypatch):
    """`package.py:make` reads as a file, and is one only where the package has no such module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in ("withpy", "without"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "withpy" / "py.py").write_text("def make(): return 1")
    trust("withpy.py", "without.py")
    assert usercode.load("withpy.py:make")() == 1
    with pytest.raises(UserCodeError, match=r"named by its module, not by its file\.\nAllowed: without:make\.$"):
        usercode.load("without.py:make")


def test_logits_of_another_number_of_classes_are_an_error(nets):
    """They would train: cross-entropy takes more classes than there are labels."""
    with pytest.raises(UserCodeError, match=r"shape \[2, 4\] .*\nAllowed: floats of shape \[2, 3\]"):
        build(config("mynets:flat", extra=1).model, (1, 6, 6), 3)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("import nowhere_to_be_found", r"raised ModuleNotFoundError: No module named 'nowhere_to_be_found'\n.*File"),
        ("1 / 0", r"importing it raised ZeroDivisionError: division by zero\n  File .*mine\.py\", line 1"),
        ("def f(:", r"importing it raised SyntaxError: .*\n(.*\n)?.*mine\.py"),
        ("raise SystemExit(0)", r"importing it raised SystemExit"),
    ],
)
def test_a_module_that_raises_is_shown_where(module, text, match):
    module("mine", text)
    trust("mine")
    with pytest.raises(UserCodeError, match=match):
        build(config("mine:f").model, (1, 6, 6), 3)


def test_nothing_is_imported_that_is_not_trusted(module):
    marker = module("mine", "open('marker', 'w')\ndef f(shape, num_classes): pass\n").with_name("marker")
    for name in ("mine:f", "os:system"):
        with pytest.raises(RefusedError, match=rf"the code '{name}' is named by the database.*\n.*--trust {name[:2]}"):
            build(config(name).model, (1, 6, 6), 3)
    assert not marker.exists()
    assert "mine" not in sys.modules


def test_trusting_a_module_does_not_trust_what_it_imports(nets):
    with pytest.raises(RefusedError, match=r"mynets:system is defined elsewhere than in mynets"):
        build(config("mynets:system").model, (1, 6, 6), 3)


def test_one_function_can_be_trusted_alone(module):
    module()
    trust("mynets:flat")
    assert build(config("mynets:flat").model, (1, 6, 6), 3)
    with pytest.raises(RefusedError, match="'mynets:Net'"):
        build(config("mynets:Net").model, (1, 6, 6), 3)
    with pytest.raises(ConfigError, match="cannot be trusted"):
        trust("os; import os")


def test_what_the_user_names_is_trusted_and_what_is_stored_is_not(module, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        '[model]\nname = "a:one"\noptions = { name = "never:x" }\n[data]\nsource = "a:data"\n'
        '[space]\n"model.name" = { choice = ["mlp", "a:two"] }\n[fine.set]\nmodel.name = "a:three"\n'
    )
    load_settings(
        file,
        environment={"HPSEARCH_MODEL": "b:one", "HPSEARCH_TRUST": "c, d:one"},
        spaces=["model.name=choice(e:one)"],
        sets=["coarse.set={}"],
        flags={"data.source": "f:one"},
    )
    expected = {"a:one", "a:data", "a:two", "a:three", "b:one", "c", "d:one", "e:one", "f:one"}
    assert set(usercode.trusted().split(",")) == expected
    stored = load_settings(stored={"model": {"name": "os:system"}}).study
    assert names_in(stored.plain()) == {"os:system"}
    assert set(usercode.trusted().split(",")) == expected


def test_the_source_is_hashed_only_where_it_is_loaded(module):
    path = module()
    assert source_hashes(["mynets:flat"]) == {}
    trust("mynets:flat")
    build(config("mynets:flat").model, (1, 6, 6), 3)
    before = source_hashes(["mynets:flat"])
    path.write_text(MODULE + "# changed\n")
    assert source_hashes(["mynets"]) != before
    assert list(before) == ["mynets"]


def test_an_error_out_of_the_users_code_is_shown_there(nets):
    inner = usercode.load("mynets:broken").__globals__["_inner"]
    with pytest.raises(ValueError, match="width") as caught:
        inner(5)
    shown = usercode.their_frames(caught.value)
    assert shown.count("  File ") == 1
    assert "in _inner" in shown
    with pytest.raises(ZeroDivisionError) as ours:
        1 / 0  # noqa: B018
    assert usercode.their_frames(ours.value) == ""
