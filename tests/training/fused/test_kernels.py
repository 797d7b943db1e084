"""Compiled kernels: they round as PyTorch does, and sum squares to the bit alike, wherever they do it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_training import make_config, make_data

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.fused import engine as fused
from hpsearch.training.fused import kernels as kernels_module
from hpsearch.training.fused.kernels import CHUNK, adam, sgd, squares
from hpsearch.training.fused.update import LONG, _in_long_rows, compile_kernels

ZERO = np.float32(0)
SUPPORT = Path(__file__).parents[2] / "support"


def arrays(seed, shape, *, dtype=np.float32):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(dtype) for _ in range(4)]


@given(numbers=st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(deadline=None, max_examples=80)
def test_weights_are_rounded_as_by_pytorch(numbers):
    # 1 + 2**-8 and 1 + 3 * 2**-8 lie in the middle between two numbers of bfloat16
    weight = np.array([[*numbers, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, np.inf, -np.inf, -0.0]], np.float32)
    expected = torch.from_numpy(weight.copy()).bfloat16()
    rounded = torch.empty_like(expected)
    gradient = np.zeros(weight.shape, np.uint16)
    with np.errstate(all="ignore"):
        sgd(weight, None, gradient, rounded.view(torch.uint16).numpy(), ZERO, ZERO, ZERO, ZERO, False)
    finite = expected.isfinite()  # an infinite weight times no gradient is no number any more
    assert torch.equal(rounded[finite], expected[finite])
    assert not rounded[~torch.from_numpy(weight).isfinite()].isfinite().any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 15), (7, 1000), (1, CHUNK - 1), (3, CHUNK), (2, 3 * CHUNK + 17)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_squares_are_the_same_bits(shape, dtype):
    rates = [dtype(0.1)] * 7
    for seed in range(5):
        weight, velocity, gradient, square = arrays(seed, shape, dtype=dtype)
        for kernel, averages, rest in (
            (sgd, [velocity], [*rates[:4], True]),
            (sgd, [None], [*rates[:4], False]),
            (adam, [velocity, square**2], rates),
        ):
            found = kernel(weight, *averages, gradient, None, *rest)
            assert found == squares(weight)
            assert found == pytest.approx(float((weight.astype(np.float64) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("gap", [0, 3])
def test_a_gradient_in_bfloat16_counts_as_the_number_that_it_is(gap):
    shape = (4, CHUNK + 5)
    weight, velocity, gradient, _ = arrays(0, shape)
    gradient = np.pad(gradient, ((0, 0), (0, gap)), constant_values=np.nan)
    bits = torch.from_numpy(gradient).bfloat16()
    expected_weight, expected_velocity = weight.copy(), velocity.copy()
    rates = [np.float32(each) for each in (0.1, 0.9, 0.01, 0.001)]
    sgd(expected_weight, expected_velocity, bits.float().numpy(), None, *rates, False)
    rounded = torch.empty(shape, dtype=torch.bfloat16)
    sgd(weight, velocity, bits.view(torch.uint16).numpy(), rounded.view(torch.uint16).numpy(), *rates, False)
    np.testing.assert_allclose(weight, expected_weight, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(velocity, expected_velocity, rtol=1e-6, atol=1e-7)
    assert torch.equal(rounded, torch.from_numpy(weight).bfloat16())


@pytest.mark.parametrize(
    ("optimizer", "shape"),
    [
        *((optimizer, (1, 32, 33)) for optimizer in ("sgd", "momentum", "nesterov", "adam", "adamw")),
        *((optimizer, shape) for optimizer in ("momentum", "adamw") for shape in ((1, 8, 8), (1, 32, 32))),
    ],
)
def test_kernels_and_stacked_operators_train_alike_in_bfloat16(optimizer, shape, monkeypatch):
    data = make_data(dtype=torch.float32, shape=shape)
    config = make_config(3, 1e9, train__optimizer=optimizer, train__precision="bfloat16", model__hidden=(16,))
    specs = [TrialSpec(0, {"lr": 1e-3, "reg": 1e-2, "train.l1": 1e-3}), TrialSpec(1, {"lr": 3e-4})]
    costs = []
    for large in (10**9, 0):
        monkeypatch.setattr(fused, "LARGE", large)
        pack = Pack(config, data, specs, engine="fused")
        costs.append([result.cost for _ in range(3) for result in pack.run_epoch().results])
        layer = pack._engine._linears[0]
        assert torch.equal(layer.rounded, layer.weight.bfloat16())
    assert costs[1] == pytest.approx(costs[0], rel=1e-4)


@pytest.mark.parametrize("num_images", [6, 32, 33])
def test_products_of_filled_up_minibatches_are_those_of_the_minibatch(num_images):
    """Zeros behind the images, and gaps behind the gradient's rows, are in no result."""
    data = make_data(num_train=num_images, dtype=torch.float32, shape=(1, 32, 32))
    config = make_config(1, 1e9, train__precision="bfloat16", train__batch_size=num_images, model__hidden=(16,))
    engine = Pack(config, data, [TrialSpec(0), TrialSpec(1)], engine="fused")._engine
    layer, x_BD = engine._linears[0], data.x_train_NCHW.flatten(1)
    for _ in range(2):  # the second time in memory that was used
        z_KOB = layer.forward(x_BD, {})
        torch.testing.assert_close(z_KOB, layer.forward(x_BD, None), rtol=0.01, atol=0.01)  # of evaluation
        delta_KOB = torch.randn(z_KOB.shape)
        layer.forward(x_BD, {})
        layer.take(delta_KOB, {})
        gradient_KOI = layer.weight_gradient()
        assert gradient_KOI.stride() == (16 * 1056, 1056, 1)
        expected_KOI = delta_KOB.bfloat16().float() @ x_BD.bfloat16().float()
        torch.testing.assert_close(gradient_KOI.float(), expected_KOI, rtol=0.01, atol=0.01)


def test_a_weight_that_another_changes_is_rounded_and_summed_again(monkeypatch):
    monkeypatch.setattr(fused, "LARGE", 0)
    data = make_data(dtype=torch.float32)
    config = make_config(2, 1e9, train__precision="bfloat16", model__hidden=(16,))
    pack = Pack(config, data, [TrialSpec(0, {"reg": 0.1})], engine="fused")
    pack.run_epoch()
    engine = pack._engine
    engine._linears[0].weight.mul_(3)
    engine.weights_changed()
    layer = engine._linears[0]
    assert torch.equal(layer.rounded, layer.weight.bfloat16())
    (found,) = engine._update_large.squares([layer.weight_name]).values()
    assert float(found) == pytest.approx(float(layer.weight.square().sum()), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_that_goes_on_alone_has_the_same_bits(optimizer, precision, monkeypatch):
    monkeypatch.setattr(fused, "LARGE", 0)
    data = make_data(dtype=torch.float32)
    config = make_config(4, 1e9, train__optimizer=optimizer, train__precision=precision, model__hidden=(64,))
    specs = [TrialSpec(0, {"reg": 0.1}), TrialSpec(1, {"lr": 1e-3, "reg": 0.2})]
    whole, begun = (Pack(config, data, specs, engine="fused") for _ in range(2))
    for _ in range(2):
        whole.run_epoch()
        begun.run_epoch()
    resumed = Pack(config, data, specs, engine="fused", snapshots={n: begun.snapshot(n) for n in (0, 1)})
    for _ in range(2):
        assert resumed.run_epoch().results == whole.run_epoch().results
    for name, tensor in whole.snapshot(1).tensors.items():
        assert torch.equal(resumed.snapshot(1).tensors[name], tensor), name


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_compiled_ahead_is_all_that_a_step_needs(optimizer, precision, monkeypatch):
    compile_kernels(optimizer)
    kernels = (kernels_module.sgd, kernels_module.adam, kernels_module.squares)
    before = [len(kernel.signatures) for kernel in kernels]
    monkeypatch.setattr(fused, "LARGE", 0)
    config = make_config(1, 1e9, train__optimizer=optimizer, train__precision=precision, model__hidden=(16,))
    Pack(config, make_data(dtype=torch.float32), [TrialSpec(0, {"reg": 0.1})], engine="fused").run_epoch()
    assert [len(kernel.signatures) for kernel in kernels] == before


def test_a_small_weight_is_rounded_each_time():
    """As on CUDA, where stacked operators in a replayed graph change it."""
    config = make_config(1, 1e9, train__precision="bfloat16", model__hidden=(16,))
    pack = Pack(config, make_data(dtype=torch.float32), [TrialSpec(0)], engine="fused")
    (layer, *_) = pack._engine._linears
    assert torch.equal(layer.rounded, layer.weight.bfloat16())
    layer.weight.mul_(3)
    assert torch.equal(layer.rounded, layer.weight.bfloat16())


@pytest.mark.slow
def test_a_net_without_large_weights_imports_no_numba():
    code = (
        "import sys\n"
        "from plain_training import make_config, make_data\n"
        "from hpsearch.results import TrialSpec\n"
        "from hpsearch.training import Pack\n"
        "pack = Pack(make_config(1), make_data(), [TrialSpec(0)], engine='fused')\n"
        "pack.run_epoch()\n"
        "print(pack.engine, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SUPPORT, capture_output=True, text=True)
    assert done.stdout.split() == ["fused", "False"], done.stderr


def test_rows_that_overlap_are_not_taken_for_rows_with_gaps():
    numbers = torch.arange(2 * LONG, dtype=torch.float32)
    assert _in_long_rows(numbers.view(2, 1, LONG))
    assert not _in_long_rows(numbers.as_strided((2, 1, LONG), (1, 1, 1)))
