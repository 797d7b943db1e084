"""The machine code of the kernels, which takes no GPU to compile."""

import pytest
import torch

NUMBERS = {torch.float32: "*fp32", torch.float64: "*fp64"}


@pytest.fixture(scope="module")
def ptx():
    """What NVIDIA's Hopper would run: (kernel, pointers, sizes and constants) -> text."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hpsearch.training import triton_kernels

    def compiled(name, numbers, absent=(), size="i32", gradient=None, **constants):
        kernel = getattr(triton_kernels, name)
        constants = {"BLOCK": 1024, **dict.fromkeys(absent), **constants}
        kinds = {"frozen": "*u8", "rounded": "*u16", "P": size, "gradient": gradient or numbers}
        signature = {each: kinds.get(each, numbers) for each in kernel.arg_names}
        signature |= dict.fromkeys(constants, "constexpr")
        # As when a launch finds them at multiples of 16.
        divisible = {
            (index,): [["tt.divisibility", 16]] for index, each in enumerate(signature) if each not in constants
        }
        source = ASTSource(kernel, signature, constants, divisible)
        return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]

    return compiled


@pytest.mark.parametrize("numbers", NUMBERS.values())
@pytest.mark.parametrize("size", ["i32", "i64"])
def test_every_variant_compiles(ptx, numbers, size):
    for nesterov in (False, True):
        ptx("sgd", numbers, size=size, NESTEROV=nesterov)
    ptx("sgd", numbers, ("velocity", "momentum", "rounded", "partial", "reg", "l1"), size, NESTEROV=False)
    ptx("sgd", numbers, size=size, gradient="*bf16", NESTEROV=False)
    ptx("adam", numbers, size=size)
    ptx("adam", numbers, ("rounded", "partial", "reg", "l1", "decay"), size)
    ptx("squares", numbers, size=size)


def test_a_trial_may_be_one_number(ptx):
    """Which Triton takes for a constant."""
    ptx("sgd", "*fp32", NESTEROV=False, P=1)
    ptx("adam", "*fp32", P=1)
    ptx("squares", "*fp32", P=1)


def test_numbers_travel_four_at_a_time_and_are_rounded_as_by_ieee(ptx):
    code = ptx("adam", "*fp32", ("rounded", "reg", "l1"))
    for kind in ("ld", "st"):
        moved = [line for line in code.splitlines() if f"{kind}.global" in line]
        assert sum(".v4." in line for line in moved) >= {"ld": 8, "st": 6}[kind]
    assert "sqrt.rn.f32" in code
    assert "div.rn.f32" in code
    assert "approx" not in code
