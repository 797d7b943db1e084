"""Tensors in blocks: found again under their names, and one update for all of them."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_training import make_config, make_data
from torch.utils._python_dispatch import TorchDispatchMode

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.layout import WEIGHTS, Layout, layout_of

SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)


class Viewing(torch.nn.Module):
    """Flattens as only tensors in the usual order can be."""

    def __init__(self):
        super().__init__()
        self.convolution, self.linear = torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Linear(3 * 8 * 8, 4)

    def forward(self, x):
        return self.linear(self.convolution(x).view(len(x), -1))


def test_a_net_that_views_its_outputs_trains(monkeypatch):
    monkeypatch.setattr("hpsearch.training.initial_state.build_initialized", lambda *_: Viewing().double())
    pack = Pack(make_config(1, model__name="nets:viewing"), make_data(), [TrialSpec(0), TrialSpec(1)], engine="loop")
    assert len(pack.run_epoch().results) == 2


@given(st.lists(SHAPES, min_size=1, max_size=6), st.integers(1, 4), st.lists(st.booleans(), min_size=6, max_size=6))
def test_what_is_joined_is_found_again(shapes, num_trials, are_weights):
    stacked = {f"t{i}": torch.randn(num_trials, *shape) for i, shape in enumerate(shapes)}
    weights = {name for name, is_weight in zip(stacked, are_weights, strict=False) if is_weight}
    layout = layout_of(stacked, weights, "joined")
    blocks = layout.joined(stacked)
    assert sum(block.numel() for block in blocks.values()) == sum(tensor.numel() for tensor in stacked.values())
    parted = layout.parted(blocks)
    assert list(parted) == list(stacked)
    for name, tensor in parted.items():
        assert torch.equal(tensor, stacked[name])
        tensor.fill_(1)  # a view
    assert all((block == 1).all() for block in blocks.values())
    if WEIGHTS in blocks:
        assert blocks[WEIGHTS].shape == (num_trials, sum(stacked[name][0].numel() for name in weights))


def test_filters_lie_as_convolutions_take_them():
    layout = Layout({"conv": (4, 3, 2, 2)}, {"conv": "all"}, channels_last=True)
    filters = torch.randn(2, 4, 3, 2, 2)
    found = layout.parted(layout.joined({"conv": filters}))["conv"]
    assert torch.equal(found, filters)
    assert found[1].is_contiguous(memory_format=torch.channels_last)


def test_a_tensor_by_itself_is_its_block():
    stacked = {"a": torch.randn(2, 3), "b": torch.randn(2)}
    layout = layout_of(stacked, {"a"}, "single")
    assert layout.joined(stacked)["a"] is stacked["a"]
    assert layout.parted(stacked)["b"] is stacked["b"]


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.num_operators = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.num_operators += 1
        return operator(*args, **(kwargs or {}))


def test_an_update_of_a_deep_net_takes_no_more_operators_than_one_of_a_shallow_net():
    """On a GPU each is a kernel to start: those of 62 tensors took longer to start than the net to compute."""

    def num_operators(num_layers):
        data = make_data()
        config = make_config(model__name="mlp", model__hidden=(5,) * num_layers, model__batch_norm=True)
        pack = Pack(config, data, [TrialSpec(0, {"reg": 0.1}), TrialSpec(1, {"train.l1": 0.1})], engine="loop")
        pack.run_epoch()
        gradients = pack._engine.gradients(data.train_images()[:9], data.y_train_N[:9], 0)
        with Counted() as counted:
            pack._state.advance(*gradients)
        return counted.num_operators

    assert num_operators(7) == num_operators(1)


def test_a_trial_goes_on_where_its_numbers_lie_otherwise():
    data, config = make_data(), make_config(3, model__name="mlp", model__hidden=(6, 5), train__optimizer="adamw")
    specs = [TrialSpec(0, {"train.weight_decay": 0.1}), TrialSpec(1, {"reg": 0.1})]
    whole = Pack(config, data, specs, engine="loop")
    for _ in range(3):
        whole.run_epoch()
    for before, after in (("loop", "fused"), ("fused", "loop"), ("vmap", "loop")):
        first = Pack(config, data, specs, engine=before)
        first.run_epoch()
        snapshots = {number: first.snapshot(number) for number in (0, 1)}
        second = Pack(config, data, specs, engine=after, snapshots=snapshots)
        for _ in range(2):
            second.run_epoch()
        for which in ("best", "last"):
            for number in (0, 1):
                for name, tensor in second.state(number, which).items():
                    torch.testing.assert_close(tensor, whole.state(number, which)[name], rtol=1e-9, atol=1e-9)
