"""Triton's kernels where there is no GPU: its interpreter runs them on a CPU, number for number as numpy would."""

import importlib.util
import sys

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
        patch.setattr(one_pass, "BLOCK", 32)  # the interpreter sums a number at a time
        for constant in ("ROWS", "DEPTH", "DOUBLE", "SPAN"):  # but multiplies many as quickly as few
            patch.setattr(batched_convolutions, constant, 256)
        yield
