"""What a trial takes of a device's memory, so that packs fit."""

import pytest
import torch
from torch import nn

from hpsearch.config import ModelConfig, TrainConfig
from hpsearch.models import build
from hpsearch.training.device_memory import COPIES, free_bytes, saved_numbers, trial_bytes


def test_what_a_forward_pass_keeps_is_counted_once():
    """Inputs of linear layers and outputs of ReLUs: those are the same tensors but for the first."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    assert saved_numbers(net, (3, 2, 2)) == 12 + 5
    deeper = nn.Sequential(net, nn.ReLU(), nn.Linear(3, 7))
    assert saved_numbers(deeper, (3, 2, 2)) == 12 + 5 + 3


def test_net_and_chance_stay_as_they_are():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    assert saved_numbers(net, (3, 8, 8)) > 3 * 8 * 8
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_net_that_fails_takes_what_its_weights_take():
    net = nn.Linear(7, 2)
    assert saved_numbers(net, (3, 8, 8)) == 0
    like = torch.empty(0, dtype=torch.float32)
    assert trial_bytes(net, (3, 8, 8), TrainConfig(optimizer="sgd"), like) == 4 * COPIES * (7 * 2 + 2)


@pytest.mark.parametrize(("optimizer", "averages"), [("sgd", 0), ("momentum", 1), ("adamw", 2)])
def test_a_resnet_takes_its_weights_many_times_and_its_outputs(optimizer, averages):
    net = build(ModelConfig(name="resnet"), (3, 32, 32), 10)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    like = torch.empty(0, dtype=torch.float32)
    one, two = (trial_bytes(net, (3, 32, 32), TrainConfig(optimizer=optimizer, batch_size=n), like) for n in (100, 200))
    assert two - one == pytest.approx(one - 4 * (COPIES + averages) * parameters)
    assert (
        4 * 100 * 32 * 32 * 64 * 5 < two - one < 4 * 100 * 32 * 32 * 64 * 60
    )  # some ten maps of the first stage's size


def test_a_cpu_says_nothing():
    assert free_bytes(torch.device("cpu")) is None
