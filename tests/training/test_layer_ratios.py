"""How far each layer went in the last step, against a plain loop in PyTorch, whatever its pack went through."""

import pytest
from plain_training import PlainTrial, make_config, make_data

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES

EPOCHS = 3
PARAMS = {3: {"lr": 0.02, "reg": 0.1}, 5: {"lr": 1e6}, 8: {"lr": 0.1, "train.momentum": 0.5, "train.ema": 0.9}}


@pytest.fixture(scope="module")
def data():
    return make_data()


def plain_ratios(config, data, params, epochs=EPOCHS):
    plain = PlainTrial(config.with_params(params), data).run(epochs)
    before, after = plain.states[-1], plain.module.state_dict()
    names = [name for name, parameter in plain.module.named_parameters() if parameter.ndim > 1]
    return {
        name.removesuffix(".weight"): ((after[name] - before[name]).norm() / before[name].norm()).item()
        for name in names
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_those_of_plain_training(data, engine, rehearsed):
    config = make_config(EPOCHS, train__optimizer="momentum", model__hidden=(6, 5), train__lr_decay=0.5)
    pack = Pack(config, data, [TrialSpec(number, params) for number, params in PARAMS.items()], engine=engine)
    assert pack.update_ratios(3) == {}  # no step was made
    while not pack.done:
        results = {result.number: result for result in pack.run_epoch().results}
    for number in (3, 8):  # the other one has exploded, and they have moved together
        found, expected = pack.update_ratios(number), plain_ratios(config, data, PARAMS[number])
        assert list(found) == list(expected) == ["fc1", "fc2", "fc3"]
        assert found == pytest.approx(expected, rel=1e-8)
        assert min(found.values()) < results[number].update_ratio < max(found.values())
    pack.drop([3])
    assert pack.update_ratios(8) == pytest.approx(expected, rel=1e-8)


def test_they_are_each_trials_own_where_others_come(data, rehearsed):
    config = make_config(EPOCHS, train__optimizer="adam", model__norm="batch", model__hidden=(6,))
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, PARAMS[3])], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    pack.admit([TrialSpec(0, PARAMS[8])])
    assert pack.update_ratios(0) == {}
    assert pack.update_ratios(1) == pytest.approx(plain_ratios(config, data, PARAMS[3], 1), rel=1e-8)
    pack.run_epoch()
    assert pack.update_ratios(0) == pytest.approx(plain_ratios(config, data, PARAMS[8], 1), rel=1e-8)
    assert pack.update_ratios(1) == pytest.approx(plain_ratios(config, data, PARAMS[3], 2), rel=1e-8)


def test_nothing_is_done_before_somebody_asks(data, monkeypatch):
    asked = []
    monkeypatch.setattr("hpsearch.training.update_ratio.layer_ratios", lambda *_: asked.append(1) or {})
    pack = Pack(make_config(EPOCHS), data, [TrialSpec(0)])
    while not pack.done:
        pack.run_epoch()
    assert not asked
    pack.update_ratios(0)
    assert asked
