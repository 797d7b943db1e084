from __future__ import annotations

import os
from itertools import product

import pytest
import torch

from hpsearch.errors import ConfigError
from hpsearch.runtime import num_cores, resolve_device, set_threads, step_seed


def test_step_seeds_are_fixed_and_fit_a_generator() -> None:
    assert step_seed(0, 1, 0) == step_seed(0, 1, 0)
    for case in [(0, 1, 0), (2**70, 1, 0), (3, 10**6, 10**9)]:
        assert 0 <= step_seed(*case) < 2**63
        torch.Generator().manual_seed(step_seed(*case))


def test_no_two_steps_share_a_seed() -> None:
    cases = list(product(range(10), range(1, 12), range(100), ("", "dropout")))
    assert len({step_seed(*case) for case in cases}) == len(cases)


def test_neighbouring_steps_are_unlike() -> None:
    bits = [bin(step_seed(0, 1, step) ^ step_seed(0, 1, step + 1)).count("1") for step in range(1000)]
    assert 30 < sum(bits) / len(bits) < 33, "half of 63 bits change on average"


def test_devices_that_are_here() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == best


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "cpu:1", "cuda:-1"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"run.device = '{name}' is not here.\nAllowed on this machine: auto, .*cpu"):
        resolve_device(name)


def test_cuda_comes_before_mps_and_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == torch.device("mps")
    with pytest.raises(ConfigError, match="Allowed on this machine: auto, mps, cpu"):
        resolve_device("cuda")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(3) == torch.get_num_threads() == 3
        monkeypatch.setattr("hpsearch.runtime.num_cores", lambda: 8)
        assert set_threads(0, workers=4) == torch.get_num_threads() == 2
        assert set_threads(0, workers=99) == 1
        assert (torch.tensor([1e-39]) * 1).item() == 0, "denormals are flushed"
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


def test_cores_are_those_this_process_may_use() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)
