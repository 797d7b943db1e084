"""Kernels for the convolutions of K trials do what PyTorch does, by Triton's interpreter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_kernels import interpreted as interpreted
from small_convolutions import Small, assert_same
from torch import nn

from hpsearch.training.fused import batched_convolutions
from hpsearch.training.fused.batched_convolutions import Run
from hpsearch.training.fused.convolution_choice import agree

pytestmark = pytest.mark.usefixtures("interpreted")


@st.composite
def convolutions(draw, dtype=torch.float64):
    """Of any geometry that leaves something of small images."""

    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, dilation, pool = pair(1, 3), pair(1, 3), pair(1, 2), draw(st.booleans())
    # A window that sees nothing but padding ends the process in float32 (torch 2.14).
    padding = pair(0, 3) if dtype == torch.float64 else tuple(draw(st.integers(0, side - 1)) for side in kernel)
    smallest = [
        max(1, ((2 if pool else 1) - 1) * step + apart * (side - 1) + 1 - 2 * pad)
        for side, step, pad, apart in zip(kernel, stride, padding, dilation, strict=True)
    ]
    conv = nn.Conv2d(
        draw(st.integers(1, 4)), draw(st.integers(1, 5)), kernel, stride, padding, dilation, bias=draw(st.booleans())
    )
    return Small(
        conv,
        num_trials=draw(st.integers(1, 3)),
        num_images=draw(st.integers(1, 3)),
        size=[side + draw(st.integers(0, 3)) for side in smallest],
        pool=pool,
        activation=draw(st.sampled_from([None, nn.ReLU, nn.Tanh, nn.Sigmoid])),
        shared=draw(st.booleans()),
        dtype=dtype,
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=5, deadline=None)
@given(small=convolutions())
def test_any_geometry_is_exact(small):
    assert_same(small.there_and_back(small.kernels), small.plainly(), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(small=convolutions())
def test_any_geometry_at_all_is_exact(small):
    assert_same(small.there_and_back(small.kernels), small.plainly(), rtol=1e-12, atol=1e-12)


@settings(max_examples=5, deadline=None)
@given(small=convolutions(torch.float32))
def test_any_geometry_in_float32(small):
    assert_same(small.there_and_back(small.kernels), small.there_and_back(small.operators), rtol=1e-5, atol=2e-5)


def test_more_channels_places_and_numbers_than_a_program_takes(monkeypatch):
    for name, value in {"DOUBLE": 16, "MAX_COLUMNS": 16, "SPAN": 32}.items():
        monkeypatch.setattr(batched_convolutions, name, value)
    small = Small(nn.Conv2d(17, 18, (2, 1), padding=1), num_trials=2, num_images=2, size=(3, 4))
    assert_same(small.there_and_back(small.kernels), small.plainly(), rtol=1e-12, atol=1e-12)


def test_few_programs_share_what_is_large(monkeypatch):
    """Else their parts of a gradient would take more memory than all else."""
    monkeypatch.setattr(batched_convolutions, "SHARED", 1)
    assert batched_convolutions._span(num_rows=1000, num_weights=10, tile=64) == 1024
    small = Small(nn.Conv2d(2, 3, 3), num_images=15)
    assert_same(small.there_and_back(small.kernels), small.plainly(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("activation", "pool"), [(nn.ReLU, True), (nn.Tanh, False)])
def test_bfloat16_is_rounded_where_operators_round(activation, pool):
    small = Small(
        nn.Conv2d(3, 4, 3, padding=1), activation=activation, pool=pool, dtype=torch.float32, precision="bfloat16"
    )
    found, expected = (small.there_and_back(layer) for layer in (small.kernels, small.operators))
    assert {name: t.dtype for name, t in found.items()} == {name: t.dtype for name, t in expected.items()}
    assert (found["output"].dtype, found["conv.weight"].dtype) == (torch.bfloat16, torch.float32)
    # A bias is added in one rounding here, in two there: a step of the last of 8 digits apart, at most.
    torch.testing.assert_close(found["output"], expected["output"], rtol=2**-7, atol=2**-7)
    assert agree(list(found.values()), list(expected.values()), 2**-8)


def test_of_several_maxima_the_first_is_taken():
    """Sums of small integers are often the same, and always exact."""
    small = Small(nn.Conv2d(2, 3, 2), activation=None, dtype=torch.float32, numbers=(-1.0, 0.0, 1.0), size=(8, 9))
    found, expected = (small.there_and_back(layer) for layer in (small.kernels, small.operators))
    windows = nn.functional.unfold(small.layers[0].forward(small.x, None).flatten(0, 1).unsqueeze(1), 2, stride=2)
    assert ((windows == windows.amax(1, keepdim=True)).sum(1) > 1).float().mean() > 0.2
    assert_same(found, expected, rtol=0, atol=0)
    assert_same(found, small.plainly(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("activation", "bad"), [(nn.ReLU, torch.nan), (nn.Tanh, torch.nan), (nn.Sigmoid, torch.inf), (None, 1e30)]
)
def test_an_explosion_is_seen_and_changes_no_bit_of_its_neighbours(activation, bad):
    small = Small(nn.Conv2d(2, 2, 3, padding=1), activation=activation, dtype=torch.float32)
    before = small.there_and_back(small.kernels)
    small.parameters["conv.weight"][1] *= bad
    small.parameters["conv.weight"][1] *= abs(bad)
    found, expected = (small.there_and_back(layer) for layer in (small.kernels, small.operators))
    for name, calm in before.items():
        along = 0 if name.startswith("conv") else 1
        parts, theirs, calm_parts = (t.chunk(3, along) for t in (found[name], expected[name], calm))
        assert torch.equal(parts[0], calm_parts[0])
        assert torch.equal(parts[2], calm_parts[2])
        if name == "output":
            torch.testing.assert_close(parts[1], theirs[1], rtol=1e-5, atol=1e-5, equal_nan=True)
            assert activation is nn.Sigmoid or not parts[1].isfinite().all()  # which ends at 1


def test_activations_are_exact_near_zero_and_far_from_it():
    small = Small(nn.Conv2d(1, 1, 1, bias=False), num_trials=1, num_images=1, size=(1, 400), pool=False)
    small.parameters["conv.weight"].fill_(1.0)
    small.x = torch.cat([torch.linspace(-1, 1, 200), torch.logspace(-300, 3, 200)]).double().view(1, 1, 1, 400)
    torch.testing.assert_close(small.kernels.forward(small.x, None), small.x.tanh(), rtol=1e-15, atol=0)


def test_evaluation_is_the_same_and_keeps_no_places():
    small = Small(nn.Conv2d(2, 3, 3))
    assert torch.equal(small.kernels.forward(small.x, None), small.kernels.forward(small.x, {}))
    small.kernels.forward(small.x, None)
    assert small.kernels._kept[-1] is None


def test_a_trials_numbers_do_not_depend_on_its_neighbours():
    few, many = (Small(nn.Conv2d(2, 3, 3), num_trials=num, dtype=torch.float32, shared=True) for num in (1, 3))
    few.x = many.x
    few.parameters["conv.weight"].copy_(many.parameters["conv.weight"][1:2])
    few.parameters["conv.bias"].copy_(many.parameters["conv.bias"][1:2])
    few.delta = many.delta.chunk(3, 1)[1]
    alone, together = (each.there_and_back(each.kernels) for each in (few, many))
    assert torch.equal(alone["output"], together["output"].chunk(3, 1)[1])
    assert torch.equal(alone["conv.weight"], together["conv.weight"][1:2])


def test_the_first_convolution_hands_nothing_down():
    small = Small(nn.Conv2d(2, 3, 3), shared=True)
    small.kernels.forward(small.x, {})
    with pytest.raises(NotImplementedError, match="nothing comes before"):
        small.kernels.backward(small.delta, {})


def test_what_kernels_do_not_do_is_left_to_operators():
    def run(*modules):
        small = Small(modules[0], pool=False, activation=None)
        state = small.layers[0]._state
        kinds = {nn.MaxPool2d: batched_convolutions.MaxPool2d}
        others = [kinds.get(type(m), batched_convolutions.Activation)(state, "", slice(None), m) for m in modules[1:]]
        return Run.of([*small.layers, *others])

    def conv():
        return nn.Conv2d(1, 1, 3)

    assert run(conv(), nn.MaxPool2d(2), nn.ReLU()).num_layers == 3
    assert run(conv(), nn.MaxPool2d((2, 2), 2), nn.GELU()).num_layers == 2
    assert run(conv(), nn.GELU()).num_layers == 1
    for pool in (nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)):
        assert run(conv(), pool, nn.ReLU()).num_layers == 1
    assert Run.of([]) is None
