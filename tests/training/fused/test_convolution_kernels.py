"""The machine code of the convolutions, which takes no GPU to compile."""

import pytest
import torch

NUMBERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16"}
GEOMETRY = {
    "INPUTS": 3, "OUTPUTS": 6, "H": 32, "W": 32, "OUT_H": 14, "OUT_W": 14, "KERNEL_H": 5, "KERNEL_W": 5,
    "STRIDE_H": 1, "STRIDE_W": 1, "PAD_H": 0, "PAD_W": 0, "DILATION_H": 1, "DILATION_W": 1,
}  # fmt: skip
POINTERS = ("a", "weight", "delta")
KERNELS = ("forward", "weight_gradient", "input_gradient")


@pytest.fixture(scope="module")
def ptx():
    """What NVIDIA's Hopper would run: (kernel, precision, pointers that are None, constants) -> text."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hpsearch.training.fused import convolution_kernels
    from hpsearch.training.fused.batched_convolutions import tiles

    def compiled(name, dtype, absent=(), **constants):
        kernel = getattr(convolution_kernels, name)
        wide = "*fp64" if dtype == torch.float64 else "*fp32"
        narrow = "*u16" if dtype == torch.bfloat16 else NUMBERS[dtype]
        kinds = {**dict.fromkeys(POINTERS, NUMBERS[dtype]), "output": narrow, "back": narrow, "places": "*u8"}
        kinds |= dict.fromkeys(("bias", "partial", "partial_bias"), wide)
        given = {**GEOMETRY, "POOL": True, "ACTIVATION": "relu", "NARROW": dtype == torch.bfloat16, **constants}
        sums = triton.language.float64 if dtype == torch.float64 else triton.language.float32
        given = {"PRECISION": "ieee", **tiles(dtype, given["OUTPUTS"]), "SUMS": sums, **given}
        constexprs = {key: value for key, value in given.items() if key in kernel.arg_names}
        constexprs |= dict.fromkeys(set(absent) & set(kernel.arg_names))
        signature = {key: "constexpr" if key in constexprs else kinds.get(key, "i32") for key in kernel.arg_names}
        source = ASTSource(kernel, signature, constexprs)
        return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]

    return compiled


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_compile_and_tensor_cores_multiply_bfloat16(ptx, kernel, dtype):
    assert ("mma" in ptx(kernel, dtype)) == (dtype == torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_variant_compiles(ptx, kernel, dtype):
    ptx(kernel, dtype, ("bias", "places", "partial_bias"), POOL=False, ACTIVATION="none", STRIDE_H=2, DILATION_W=3)
    ptx(kernel, dtype, ("bias", "partial_bias"), ACTIVATION="tanh")
    ptx(kernel, dtype, ("places",), POOL=False, ACTIVATION="sigmoid", INPUTS=96, OUTPUTS=130, KERNEL_H=3, KERNEL_W=3)
    # Sizes by which nothing need be divided.
    ptx(kernel, dtype, INPUTS=1, OUTPUTS=1, KERNEL_H=1, KERNEL_W=1, H=2, W=2, OUT_H=1, OUT_W=1)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_tensor_cores_multiply_float32_where_it_may_be_rounded(ptx, kernel):
    assert "tf32" in ptx(kernel, torch.float32, PRECISION="tf32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NUMBERS)
def test_evaluation_keeps_no_places(ptx, dtype):
    ptx("forward", dtype, ("places",))
