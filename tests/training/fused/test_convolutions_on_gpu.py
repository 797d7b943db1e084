"""Kernels for convolutions as a GPU runs them, by themselves, in the choice, and in recorded steps."""

import dataclasses
import sys

import pytest
import torch
from plain_training import make_config, make_data
from small_convolutions import Small, assert_same
from torch import nn

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.fused import nets
from hpsearch.training.fused.batched_convolutions import BatchedConvolution
from hpsearch.training.fused.convolution_choice import Chooser, ChosenConvolution, agree, chooser_for, cuda_ms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CONVOLUTIONS = {
    "first of LeNet": (lambda: nn.Conv2d(3, 6, 5), {"size": (32, 32), "shared": True}),
    "second of LeNet": (lambda: nn.Conv2d(6, 16, 5), {"size": (14, 14)}),
    "odd": (lambda: nn.Conv2d(5, 7, (3, 2), (2, 1), (1, 2), (1, 2)), {"size": (17, 12), "activation": nn.Sigmoid}),
    "alone": (lambda: nn.Conv2d(32, 80, 3, padding=1, bias=False), {"pool": False, "activation": None}),
    "one number": (lambda: nn.Conv2d(1, 1, 1), {"size": (2, 2), "num_trials": 1, "num_images": 1}),
}


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Kernels for the device, whatever ran before; full precision in operators, too."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delitem(sys.modules, "hpsearch.training.fused.convolution_kernels", raising=False)
    monkeypatch.delattr("hpsearch.training.fused.convolution_kernels", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_in_float64_kernels_are_exact(name):
    make, options = CONVOLUTIONS[name]
    small = Small(make().cuda(), device="cuda", **options)
    assert_same(small.there_and_back(small.kernels), small.plainly(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(
    ("precision", "tf32", "tolerance"), [("float32", False, 1e-5), ("float32", True, 5e-3), ("bfloat16", False, 0.02)]
)
def test_kernels_do_what_operators_do(name, precision, tf32, tolerance, monkeypatch):
    make, options = CONVOLUTIONS[name]
    small = Small(make().cuda(), device="cuda", dtype=torch.float32, precision=precision, **options)
    expected = small.there_and_back(small.operators)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    found = small.there_and_back(small.kernels)
    assert found.keys() == expected.keys()
    assert agree(list(found.values()), list(expected.values()), tolerance)


def test_the_choice_is_timed_on_the_device(caplog):
    make, options = CONVOLUTIONS["second of LeNet"]
    small = Small(make().cuda(), device="cuda", dtype=torch.float32, **options)
    assert 0 < cuda_ms(lambda: small.operators.forward(small.x, {})) < 1000
    chooser = chooser_for(small.x.device)
    assert chooser is chooser_for(torch.device(small.x.device))
    layer = ChosenConvolution(small.run, small.layers, chooser, is_first=False)
    with caplog.at_level("DEBUG", logger="hpsearch"):
        layer.forward(small.x, {})
    assert "by kernels and" in caplog.text


@pytest.mark.parametrize("net", ["lenet", "convnet"])
def test_recorded_steps_by_kernels_are_those_of_a_cpu(net, monkeypatch):
    times = iter(range(10**6))  # kernels are timed first, so they are the quicker ones
    chooser = Chooser(lambda work: (work(), float(next(times)))[1])
    config, data = make_config(4, 1e9, model__name=net, model__activation="tanh"), make_data(shape=(2, 12, 12))
    tensors = {name: getattr(data, name).cuda() for name in ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N")}
    specs = [TrialSpec(0), TrialSpec(1, {"lr": 3e-3}), TrialSpec(2, {"reg": 0.01})]
    cpu = Pack(config, data, specs, engine="fused")
    monkeypatch.setattr(nets, "chooser_for", lambda _device: chooser)
    gpu = Pack(config, dataclasses.replace(data, **tensors), specs, engine="fused")
    for _ in range(4):
        for found, expected in zip(gpu.run_epoch().results, cpu.run_epoch().results, strict=True):
            assert (found.cost, found.val_loss) == pytest.approx((expected.cost, expected.val_loss), rel=1e-9)
    (layers,) = gpu._engine._layers[0]._groups
    chosen = [layer._chosen for layer in layers if isinstance(layer, ChosenConvolution)]
    assert {type(each) for each in chosen} == {BatchedConvolution}
