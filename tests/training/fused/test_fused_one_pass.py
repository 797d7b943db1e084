"""The fused engine where updates take gradients in bfloat16 and leave rounded weights behind, as Triton's do."""

import pytest
import torch
from interpreted_kernels import interpreted
from plain_training import make_config, make_data

from hpsearch.results import TrialSpec
from hpsearch.training import Pack, state
from hpsearch.training.fused import engine as fused
from hpsearch.training.one_pass import OnePass

__all__ = ["interpreted"]


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_a_pack_in_bfloat16_trains_as_by_stacked_operators(interpreted, monkeypatch, optimizer):
    data = make_data(num_train=12, num_val=6, shape=(1, 3, 3), num_classes=3, dtype=torch.float32)
    config = make_config(3, train__precision="bfloat16", train__optimizer=optimizer, model__hidden=(4,))
    specs = [TrialSpec(0, {"lr": 0.1}), TrialSpec(1, {"lr": 1e9}), TrialSpec(2, {"reg": 0.3})]
    monkeypatch.setattr(fused, "LARGE", 10**9)
    packs = [Pack(config, data, specs, engine="fused")]
    monkeypatch.setattr(state, "make_updater", OnePass)
    packs.append(Pack(config, data, specs, engine="fused"))
    assert [bool(pack._engine._followed) for pack in packs] == [False, True]
    for _ in range(2):
        reports = [pack.run_epoch() for pack in packs]
        assert [e.number for e in reports[0].explosions] == [e.number for e in reports[1].explosions]
    first = packs[1]._engine._linears[0]
    assert torch.equal(first.rounded, first.weight.bfloat16())
    for number in packs[0].numbers:
        torch.testing.assert_close(packs[1].state(number, "last"), packs[0].state(number, "last"), rtol=1e-5, atol=1e-6)
