"""Updates in one pass as a GPU makes them, by itself and in a graph."""

import sys

import pytest
import torch
from small_updates import OPTIMIZERS, TOLERANCES, assert_alike, everything, make_gradients, make_updated, run

from hpsearch.training import one_pass
from hpsearch.training.one_pass import OnePass, make_updater
from hpsearch.training.updater import StackedOperators

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def compiled(monkeypatch):
    """Kernels for the device, whatever ran before."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delitem(sys.modules, "hpsearch.training.triton_kernels", raising=False)
    monkeypatch.delattr("hpsearch.training.triton_kernels", raising=False)
    monkeypatch.setattr(one_pass, "BLOCK", 1024)


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("size", [(1,), (1000,), (64, 33), (300_001,)])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_on_a_gpu_one_pass_is_the_stacked_operators(compiled, optimizer, dtype, size):
    sizes = {"weight": size, "bias": (3,)}
    plain, ours = (make_updated(optimizer, 5, sizes, dtype, "cuda") for _ in range(2))
    assert isinstance(make_updater(ours), OnePass)
    masks = [torch.tensor([step >= 2, True, False, False, False], device="cuda") for step in range(5)]
    rounded = {"weight": ours.blocks["weight"].bfloat16()}
    run(StackedOperators, plain, 5, masks.__getitem__)
    updater = run(OnePass, ours, 5, masks.__getitem__, rounded)
    assert_alike(everything(ours), everything(plain))
    assert torch.equal(rounded["weight"], ours.blocks["weight"].bfloat16())
    expected_K = ours.blocks["weight"].double().flatten(1).square().sum(1)
    torch.testing.assert_close(updater.squares()["weight"].double(), expected_K, rtol=TOLERANCES[dtype], atol=0.0)


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_of_it_does_the_same(compiled, optimizer):
    plain, ours = (make_updated(optimizer, 5, {"weight": (1000, 3)}, torch.float32, "cuda") for _ in range(2))
    run(StackedOperators, plain, 5)
    updater = OnePass(ours)
    gradients = make_gradients(ours, 0)
    graph, squares = torch.cuda.CUDAGraph(), {}

    def step():
        squares.update(updater.squares())
        ours.num_updates.add_(1)
        updater.update(gradients, None)

    step()
    with torch.cuda.graph(graph):
        step()
    for number in range(1, 5):
        gradients["weight"].copy_(make_gradients(ours, number)["weight"])
        before_K = ours.blocks["weight"].double().square().sum((1, 2))
        graph.replay()
        torch.testing.assert_close(squares["weight"].double(), before_K, rtol=1e-6, atol=0.0)
    assert_alike(everything(ours), everything(plain))
