"""Keys that do nothing: what the schema says of them is true, is said once, and is refused where it is searched."""

import sys
import types
from typing import get_args

import pytest
import torch
from typer.testing import CliRunner

from hpsearch.cli.app import app
from hpsearch.config import ModelConfig, StudyConfig, TrainConfig, load_settings, usercode
from hpsearch.config.fields import UsedBy
from hpsearch.config.hyperparameters import SEARCHABLE
from hpsearch.config.schema import MODELS
from hpsearch.config.template import commented_study_file
from hpsearch.config.usage import is_used, unused_ranges
from hpsearch.errors import ConfigError
from hpsearch.models import NOISY, build, build_initialized
from hpsearch.training.optimizers import make_optimizer
from hpsearch.training.schedules import learning_rate
from hpsearch.training.vectors import Vectors

MARKED = {
    (section, name): mark
    for section, model in SEARCHABLE.items()
    for name, field in model.model_fields.items()
    for mark in field.metadata
    if isinstance(mark, UsedBy)
}
STRUCTURE = {
    "hidden": (7,),
    "activation": "tanh",
    "channels": (5, 6),
    "convs": 2,
    "pool": False,
    "kernel": 5,
    "stride": 2,
    "factor": True,
    "batch_norm": True,
    "norm": "layer",
    "depth": 34,
    "dropout_at": "all",
    "dropconnect": 0.2,
    "stochastic_depth": 0.2,
}
NUMBERS = ("init", "init_bias")  # that leave the layers as they are
OF_LIBRARIES = ("pretrained", "weights", "freeze", "features")  # see tests/models


def test_every_mark_names_a_key_and_its_values():
    for mark in MARKED.values():
        section, key = mark.by.split(".")
        assert key in SEARCHABLE[section].model_fields
        assert mark.users


@pytest.mark.parametrize(("section", "name"), MARKED, ids=".".join)
def test_the_line_on_a_key_names_who_uses_it(section, name):
    """Or who does not, where that is shorter."""
    said = SEARCHABLE[section].model_fields[name].description
    if name in ("init", "init_bias", "dropconnect"):
        assert "A net of MODULE:FUNCTION" in said
        return
    for user in MARKED[section, name].users:
        assert user.removesuffix(":PATH") in said


@pytest.mark.parametrize("key", STRUCTURE)
@pytest.mark.parametrize("model", MODELS)
def test_a_net_changes_with_the_keys_that_it_uses_and_with_no_other(model, key):
    def layers(**values):
        with torch.device("meta"):  # without weights, of which a resnet has millions
            net = build(ModelConfig(name=model, dropout=0.1, **values), (1, 32, 32), 3)
        leaves = [(name, layer) for name, layer in net.named_modules() if not [*layer.children()]]
        return [(name, type(layer), isinstance(layer, NOISY) or str(layer)) for name, layer in leaves]

    value = 11 if (model, key) == ("vgg", "depth") else STRUCTURE[key]
    assert (layers() == layers(**{key: value})) == (model not in MARKED["model", key].users)


@pytest.mark.slow
def test_the_nets_here_are_initialized_as_they_are_asked_and_those_of_others_are_not(monkeypatch):
    def numbers(model, **keys):
        net = build_initialized(ModelConfig(name=model, hidden=(4,), **keys), (1, 32, 32), 3, 0)
        return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])

    monkeypatch.setattr(usercode, "_trusted", {"nets:net"})
    monkeypatch.setitem(sys.modules, "nets", types.ModuleType("nets"))
    sys.modules["nets"].net = lambda shape, num_classes: torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(32 * 32, 3)
    )
    for model in ("linear", "mlp", "lenet", "convnet", "vgg", "nets:net"):
        for key, value in (("init", "xavier"), ("init_bias", 0.1)):
            same = torch.equal(numbers(model), numbers(model, **{key: value}))
            assert same == (model not in MARKED["model", key].users)


def test_groups_are_those_of_one_normalization():
    def layers(**values):
        return str(build(ModelConfig(name="convnet", channels=(16,), **values), (1, 8, 8), 3))

    for norm in ("none", "batch", "layer", "instance", "group"):
        same = layers(norm=norm) == layers(norm=norm, groups=4)
        assert same == (norm not in MARKED["model", "groups"].users)


def test_all_keys_of_the_nets_are_tried_above():
    assert {name for section, name in MARKED if section == "model"} == {
        *STRUCTURE, *OF_LIBRARIES, *NUMBERS, "groups", "options",
    }  # fmt: skip


@pytest.mark.parametrize("optimizer", get_args(TrainConfig.model_fields["optimizer"].annotation))
@pytest.mark.parametrize(("key", "value"), [("momentum", 0.5), ("beta2", 0.5), ("weight_decay", 0.5)])
def test_an_optimizer_changes_with_the_keys_that_it_uses_and_with_no_other(optimizer, key, value):
    def trained(**values):
        config = StudyConfig(train=TrainConfig(optimizer=optimizer, **values))
        weights = {"w": torch.ones(1, 2, 2)}
        update = make_optimizer(optimizer, weights, ["w"], Vectors.of([config]))
        for step, size in enumerate((0.1, 0.2, -1e-3, -0.02), start=1):  # whose signs tell Lion's averages apart
            update.update(weights, {"w": torch.full((1, 2, 2), size)}, torch.ones(1), torch.tensor([step]), None)
        return weights["w"]

    assert torch.equal(trained(), trained(**{key: value})) == (optimizer not in MARKED["train", key].users)


@pytest.mark.parametrize(
    "schedule", ["exponential", "cosine", "step", "linear", "sgdr", "one-cycle", "inverse-sqrt", "constant"]
)
@pytest.mark.parametrize(
    ("key", "value"), [("lr_decay", 0.5), ("lr_step", 2), ("lr_period", 2), ("lr_period_factor", 3)]
)
def test_a_schedule_changes_with_the_keys_that_it_uses_and_with_no_other(schedule, key, value):
    def rates(**values):
        train = TrainConfig(lr_schedule=schedule, epochs=12, **values)
        decay_K = torch.tensor([train.lr_decay])
        return [learning_rate(train, torch.ones(1), decay_K, epoch).item() for epoch in range(1, 13)]

    assert (rates() == rates(**{key: value})) == (schedule not in MARKED["train", key].users)


@pytest.mark.parametrize(
    ("document", "notes"),
    [
        (
            {"model": {"name": "lenet", "batch_norm": True}},
            "model.batch_norm is not used by lenet; mlp, convnet and vgg use it",
        ),
        (
            {"model": {"name": "linear", "hidden": [9]}},
            "model.hidden is not used by linear; mlp, convnet, vgg, torchvision:NAME and timm:NAME use it",
        ),
        ({"model": {"depth": 34}}, "model.depth is not used by mlp; resnet and vgg use it"),
        ({"model": {"options": {"width": 3}}}, "model.options is not used by mlp; MODULE:FUNCTION uses it"),
        ({"model": {"name": "a:b", "pool": False}}, "model.pool is not used by a:b; convnet and vgg use it"),
        ({"train": {"weight_decay": 0.1}}, "train.weight_decay is not used by momentum; adamw and lion use it"),
        ({"train": {"lr_step": 3}}, "train.lr_step is not used by exponential; step uses it"),
        ({"data": {"source": "npz:x", "size": 9}}, "data.size is not used by npz:x; folder:PATH and csv:PATH use it"),
        ({"data": {"synthetic": {"noise": 2}}}, "data.synthetic is not used by digits; synthetic uses it"),
        (
            {"fine": {"set": {"beta2": 0.5}}},
            "fine.set: train.beta2 is not used by momentum; adam, adamw, nadam, rmsprop and lion use it",
        ),
        # What is as by default, or used in one of the stages or by one of the choices, is not worth a word.
        ({"model": {"name": "lenet", "batch_norm": False, "hidden": [50]}}, None),
        ({"train": {"optimizer": "sgd", "momentum": 0.9}}, None),
        ({"train": {"weight_decay": 0.1}, "fine": {"set": {"optimizer": "adamw"}}}, None),
        ({"train": {"beta2": 0.9}, "space": {"optimizer": {"choice": ["sgd", "adam"]}}}, None),
        ({"data": {"source": "folder:x", "size": 9}}, None),
        ({"model": {"name": "a:b", "options": {"width": 3}, "dropout": 0.1}}, None),
        ({"data": {"source": "synthetic", "synthetic": {"noise": 2}}}, None),
    ],
)
def test_what_is_set_and_does_nothing_is_noted(monkeypatch, document, notes):
    monkeypatch.setattr(usercode, "_trusted", set())
    assert load_settings(document=document).notes == ((notes,) if notes else ())
    assert load_settings(stored=load_settings(document=document).study.plain()).notes == ()


def test_flags_and_the_environment_are_given_too_and_a_key_is_named_once():
    settings = load_settings(
        document={"model": {"depth": 34}},
        environment={"HPSEARCH_MODEL__DEPTH": "50", "HPSEARCH_MODEL__CONVS": "2"},
        sets=["beta2=0.9"],
        flags={"model.name": "lenet"},
    )
    assert settings.notes == (
        "model.depth is not used by lenet; resnet and vgg use it",
        "model.convs is not used by lenet; convnet uses it",
        "train.beta2 is not used by momentum; adam, adamw, nadam, rmsprop and lion use it",
    )


def test_the_template_has_nothing_to_note(tmp_path):
    (tmp_path / "study.toml").write_text(commented_study_file())
    assert load_settings(tmp_path / "study.toml", flags={"model.name": "linear", "train.optimizer": "sgd"}).notes == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"document": {"space": {"beta2": {"uniform": [0.5, 0.9]}}}},
            "space.train.beta2 is not used by momentum; adam, adamw, nadam, rmsprop and lion use it.\n"
            "Take it out of the space (--space train.beta2=none), "
            "or set train.optimizer = adam, adamw, nadam, rmsprop or lion.",
        ),
        (
            {"spaces": ["momentum=uniform(0.5,0.9)"], "sets": ["train.optimizer=sgd"]},
            "space.train.momentum is not used by sgd; momentum, nesterov, adam, adamw, nadam, rmsprop and lion use "
            "it.\n"
            "Take it out of the space (--space train.momentum=none), "
            "or set train.optimizer = momentum, nesterov, adam, adamw, nadam, rmsprop or lion.",
        ),
        (
            {"spaces": ["model.options.width=int(8,64)"]},
            "space.model.options.width is not used by mlp; MODULE:FUNCTION uses it.\n"
            "Take it out of the space (--space model.options.width=none), or set model.name = MODULE:FUNCTION.",
        ),
        (
            {"spaces": ["model.depth=choice(18,34)", "model.name=choice(mlp,lenet)"]},
            "space.model.depth is not used by mlp or lenet; resnet and vgg use it.\n"
            "Take it out of the space (--space model.depth=none), or set model.name = resnet or vgg.",
        ),
    ],
)
def test_what_is_searched_and_does_nothing_is_refused(arguments, message):
    with pytest.raises(ConfigError) as caught:
        load_settings(**arguments)
    assert str(caught.value) == message


def test_what_one_of_the_choices_uses_is_searched_and_what_is_stored_can_be_read():
    spaces = [
        "momentum=uniform(0.5,0.9)",
        "optimizer=choice(sgd,momentum)",
        "depth=choice(18,34)",
        "model.name=choice(mlp,resnet)",
    ]
    assert not unused_ranges(load_settings(spaces=spaces).study)
    stored = load_settings(stored={"space": {"beta2": {"uniform": [0.5, 0.9]}}}).study
    assert unused_ranges(stored).keys() == {"train.beta2"}
    assert not is_used(stored, "train", "beta2")


def test_the_command_says_it_once_on_stderr_unless_it_is_to_be_quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(
        '[data]\nsource = "synthetic"\nlimit = 90\n[model]\nname = "linear"\ndepth = 34\n'
    )
    show = ["data", "show", "-c", "study.toml", "--set", "data.size=9"]
    done = CliRunner().invoke(app, show)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "note: model.depth is not used by linear; resnet and vgg use it",
        "note: data.size is not used by synthetic; folder:PATH and csv:PATH use it",
    ]
    assert CliRunner().invoke(app, [*show, "-q"]).stderr == ""
    assert CliRunner().invoke(app, ["data", "list"], env={"HPSEARCH_MODEL__DEPTH": "34"}).stderr == ""
