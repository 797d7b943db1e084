"""Triton's kernels where there is no GPU: its interpreter runs them on a CPU, number for number as numpy would."""

import dataclasses
import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hpsearch.training import one_pass
from hpsearch.training.fused import batched_convolutions

MODULES = ("hpsearch.training.triton_kernels", "hpsearch.training.fused.convolution_kernels")


@pytest.fixture(scope="module")
def interpreted():
    """Whoever imports the kernels gets interpreted ones; `triton.jit` asks the environment when it decorates."""
    pytest.importorskip("triton")
    # Of a frozen trial's numbers, which are left out, nothing is used but computed: 0 / 0 like all others.
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setenv("TRITON_INTERPRET", "1")
        for name in MODULES:
            spec = importlib.util.find_spec(name)
            kernels = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(kernels)
            patch.setitem(sys.modules, name, kernels)
            package, _, attribute = name.rpartition(".")
            patch.setattr(sys.modules[package], attribute, kernels, raising=False)
        restore = _interpret_quickly(patch)
        patch.setattr(one_pass, "BLOCK", 32)  # the interpreter sums a number at a time
        for constant in ("ROWS", "DEPTH", "DOUBLE", "SPAN"):  # but multiplies many as quickly as few
            patch.setattr(batched_convolutions, constant, 256)
        yield
        restore()


def _interpret_quickly(patch):
    """In three quarters of its time.

    The language is replaced once instead of in each call of each function, and there is no second sum in int64 beside
    each sum of indices, which are small here.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    if not hasattr(interpreter, "_LangPatchScope"):  # a version that does it in another way, and takes its time
        return lambda: None
    replaced = interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
    patch.setattr(interpreter, "_patch_lang", lambda function: interpreter._LangPatchScope())
    builder = interpreter.interpreter_builder
    patch.setattr(builder, "options", dataclasses.replace(builder.options, sanitize_overflow=False))
    return replaced.restore
