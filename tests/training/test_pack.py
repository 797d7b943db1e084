"""What goes into a pack, what comes out, and who leaves when."""

import dataclasses
import logging
import math

import pytest
import torch
from plain_training import make_config, make_data

from hpsearch.config import StudyConfig
from hpsearch.config.hyperparameters import hyperparameter_paths, is_vector
from hpsearch.errors import ConfigError, EngineError
from hpsearch.models import build
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES, default_engine
from hpsearch.training.vectors import Vectors


@pytest.fixture(scope="module")
def data():
    return make_data()


def test_all_vector_hyperparameters_reach_the_pack():
    keys = {path.split(".")[1] for path in hyperparameter_paths() if is_vector(path)}
    own = {"step_options"}  # of names that are the user's: [space] gives a range to each of them
    assert keys | own == {field.name for field in dataclasses.fields(Vectors)}


def test_learns(data):
    config = make_config(epochs=10, model__hidden=(10,))
    pack = Pack(config, data, [TrialSpec(4, {"lr": 0.003}), TrialSpec(7, {"lr": 1e-9})])
    assert (pack.numbers, pack.epoch, pack.num_epochs) == ((4, 7), 0, 10)
    first = pack.run_epoch()
    while not pack.done:
        last = pack.run_epoch()
    assert pack.epoch == 10
    learned, stayed = last.results
    assert learned.val_acc == 1.0
    assert learned.train_loss < 0.1 < first.results[0].train_loss
    assert stayed.train_loss == pytest.approx(first.results[1].train_loss, rel=1e-4)
    assert stayed.update_ratio < 1e-6 < learned.update_ratio
    with pytest.raises(EngineError, match="done after 10"):
        pack.run_epoch()


@pytest.mark.parametrize("engine", ENGINES)
def test_initial_cost_of_the_lectures(engine):
    """PROCEDURE: ln 10 without regularization, 3.07 with reg 1e3, for weights of 1e-4."""
    data = make_data(num_train=20, shape=(3, 32, 32), num_classes=10)
    config = make_config(1, model__hidden=(50,), model__init="small:1e-4", train__batch_size=20, lr=1e-12)
    pack = Pack(config, data, [TrialSpec(0, {"reg": 0.0}), TrialSpec(1, {"reg": 1e3})], engine=engine)
    without, with_reg = (result.cost for result in pack.run_epoch().results)
    assert without == pytest.approx(math.log(10), abs=0.001)
    assert with_reg == pytest.approx(3.07, abs=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_dropping_changes_nothing_for_the_rest(data, engine):
    config = make_config(epochs=4, model__hidden=(6,), model__batch_norm=True, train__optimizer="adamw")
    specs = [TrialSpec(i, {"lr": 1e-3 * (i + 1), "reg": 0.01 * i, "train.beta2": 0.9 + 0.01 * i}) for i in range(4)]
    complete, shrinking = (Pack(config, data, specs, engine=engine) for _ in range(2))
    complete.run_epoch()
    shrinking.run_epoch()
    shrinking.drop([0, 2])
    assert shrinking.numbers == (1, 3)
    for _ in range(3):
        expected = [result for result in complete.run_epoch().results if result.number in (1, 3)]
        for result, other in zip(shrinking.run_epoch().results, expected, strict=True):
            assert result.as_plain() == pytest.approx(other.as_plain(), rel=1e-9)
    for number in (1, 3):
        for name, tensor in shrinking.state(number, "last").items():
            torch.testing.assert_close(tensor, complete.state(number, "last")[name], rtol=1e-9, atol=1e-9)
    shrinking.drop([1, 3])
    assert shrinking.done


def test_state_fits_the_trials_own_net(data):
    config = make_config(epochs=1, model__hidden=(6,), model__batch_norm=True)
    pack = Pack(config, data, [TrialSpec(0, {"model.dropout": 0.5}), TrialSpec(1)])
    result = pack.run_epoch().results[1]
    module = build(config.model, data.shape, data.num_classes).double()
    state = pack.state(1)
    module.load_state_dict(state)
    loss = torch.nn.functional.cross_entropy(module.eval()(data.x_val_NCHW), data.y_val_N)
    assert loss.item() == pytest.approx(result.val_loss)
    state["fc1.weight"].zero_()  # a copy
    assert pack.state(1)["fc1.weight"].any()


def test_an_interrupted_pack_can_be_looked_at(data, monkeypatch):
    pack = Pack(make_config(), data, [TrialSpec(0)])

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pack._engine, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack.run_epoch()
    assert pack.epoch == 0
    assert pack.numbers == (0,)
    assert pack.state(0)["fc1.weight"].isfinite().all()


def test_refuses_trials_that_do_not_fit(data):
    config = make_config()
    for specs, message in [
        ([], "at least one"),
        ([TrialSpec(0), TrialSpec(0)], "twice"),
        ([TrialSpec(0), TrialSpec(1, {"model.hidden": (3,)})], "trial 1 has another structure"),
        ([TrialSpec(0, {"train.batch_size": 7})], "trial 0 has another structure"),
    ]:
        with pytest.raises(EngineError, match=message):
            Pack(config, data, specs)
    with pytest.raises(ConfigError, match=r"train\.momentum"):
        Pack(config, data, [TrialSpec(0, {"train.momentum": 1.5})])
    with pytest.raises(EngineError, match="Allowed: auto, loop, vmap"):
        Pack(config, data, [TrialSpec(0)], engine="vmp")
    pack = Pack(config, data, [TrialSpec(0, {"model.hidden": [50]})])  # the pack's own structure may be stated
    with pytest.raises(EngineError, match="trial 3 is not in the pack"):
        pack.drop([3])
    with pytest.raises(EngineError, match="trial 3 is not in the pack"):
        pack.state(3)


def test_auto_engine(data):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [default_engine(name, cpu) for name in ("linear", "mlp", "lenet", "convnet", "vgg", "resnet")] == [
        "fused", "fused", "fused", "fused", "loop", "loop",
    ]  # fmt: skip
    nets = ("mlp", "lenet", "convnet", "vgg", "resnet", "nets:small")
    assert [default_engine(name, cuda) for name in nets] == ["fused", "fused", "fused", "loop", "loop", "vmap"]
    assert Pack(make_config(), data, [TrialSpec(0)]).engine == "fused"


class DataDependent(torch.nn.Linear):
    """Takes a branch on a value, which vmap cannot."""

    def forward(self, x):
        logits = super().forward(x.flatten(1))
        return logits if logits.sum() > 0 else 2 * logits


def test_auto_falls_back_to_loop(data, monkeypatch, caplog):
    monkeypatch.setattr("hpsearch.training.initial_state.build_initialized", lambda *_: DataDependent(64, 4).double())
    with caplog.at_level(logging.WARNING, logger="hpsearch"):
        pack = Pack(make_config(), data, [TrialSpec(0)])
    assert pack.engine == "loop"
    assert "vmap cannot train model mlp" in caplog.text
    assert len(pack.run_epoch().results) == 1
    with pytest.raises(EngineError, match=r"engine vmap cannot train model mlp"):
        Pack(make_config(), data, [TrialSpec(0)], engine="vmap")


def test_the_study_files_own_values_are_the_default():
    """And what is reported is not rounded to the precision of the training."""
    config = StudyConfig().with_params({"lr": 0.123, "train.lr_decay": 1.0})
    data = make_data(num_val=7, dtype=torch.float32)
    result = Pack(config, data, [TrialSpec(0, {"reg": 0.1})]).run_epoch().results[0]
    assert result.lr == 0.123
    assert result.val_acc in [correct / 7 for correct in range(8)]
