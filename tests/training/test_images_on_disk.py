"""Images that stay on disk give every engine the numbers that images in memory give, to the last bit."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from hpsearch.config import load_settings
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.search.final_measurement import joined
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.images import load_images

SPECS = [TrialSpec(0, {"lr": 0.05}), TrialSpec(1, {"lr": 0.01, "reg": 0.1}), TrialSpec(2, {"lr": 1e9})]


@pytest.fixture(params=["bytes", "floats"])
def settings(request, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(70) % 3
    x = rng.integers(0, 200, (70, 3, 8, 8), dtype=np.uint8) + 20 * y[:, None, None, None].astype(np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x if request.param == "bytes" else x / 7.0, y_train=y)
    return load_settings(
        stored={
            "data": {"source": f"npz:{tmp_path / 'a.npz'}", "augment": ["hflip", "crop:1"], "val": 14, "scale": 2.0},
            "model": {"name": "convnet", "channels": [4], "hidden": [5], "dropout": 0.2},
            "train": {"batch_size": 9, "epochs": 3, "precision": "float32"},
            "run": {"device": "cpu", "threads": 1},
        }
    )


def both_ways(settings):
    """In memory, and on disk."""
    on_disk = settings.run.model_copy(update={"memory": 1})
    found = load_images(settings.study, settings.run), load_images(settings.study, on_disk)
    assert [data.on_disk for data in found] == [False, True]
    assert "images stay on disk: 70, of " in found[1].notes[-1]
    return found


def trained(settings, data, engine, specs=SPECS):
    pack = Pack(settings.study, data, specs, engine=engine, falls_back=True)
    reports = [pack.run_epoch() for _ in range(3)]
    return reports, {(number, name): t for number in pack.numbers for name, t in pack.state(number).items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_trains_to_the_same_bit(settings, engine, caplog, rehearsed):
    in_memory, on_disk = both_ways(settings)
    with caplog.at_level(logging.WARNING):
        reports, weights = trained(settings, in_memory, "loop" if engine == "graph" else engine)
        assert not caplog.records
        found, its_weights = trained(settings, on_disk, engine)
    assert ("these images stay on disk (run.memory), so loop trains" in caplog.text) == (engine == "graph")
    assert found == reports
    assert [explosion.number for report in reports for explosion in report.explosions] == [2]
    assert its_weights.keys() == weights.keys()
    assert all(torch.equal(its_weights[key], tensor) for key, tensor in weights.items())


def test_an_engine_that_must_not_fall_back_says_why(settings):
    _, on_disk = both_ways(settings)
    with pytest.raises(
        EngineError, match=r"^graph gathers its batches on the device.*\(run\.memory\)\.\nAllowed: .*auto"
    ):
        Pack(settings.study, on_disk, SPECS, engine="graph", falls_back=False)


def test_validation_images_join_those_to_train_on(settings):
    in_memory, on_disk = map(joined, both_ways(settings))
    assert on_disk.num_train == 70
    for (x, y), (its_x, its_y) in zip(in_memory.batches(1, 1, 16), on_disk.batches(1, 1, 16), strict=True):
        assert torch.equal(x, its_x)
        assert torch.equal(y, its_y)


def test_a_part_of_them_stays_on_disk(settings):
    """As for timing, and for checks on few validation images."""
    in_memory, on_disk = both_ways(settings)
    parts = [
        replace(data, x_train_NCHW=data.x_train_NCHW[:20], y_train_N=data.y_train_N[:20])
        for data in (in_memory, on_disk)
    ]
    assert parts[1].on_disk
    for (x, _), (its_x, _) in zip(*(part.batches(1, 1, 6) for part in parts), strict=True):
        assert torch.equal(x, its_x)
    rows = torch.tensor([5, 0, 7])
    assert torch.equal(in_memory.x_val_NCHW[rows], on_disk.x_val_NCHW[rows])


def test_fused_leaves_its_recording_where_batches_are_not_on_the_device(settings):
    """As on CUDA, where whole steps are recorded."""
    in_memory, on_disk = both_ways(settings)
    packs = [Pack(settings.study, data, SPECS[:2], engine="fused") for data in (in_memory, on_disk)]
    packs[1]._engine._steps = "a recording, which nobody may run"
    assert packs[0].run_epoch() == packs[1].run_epoch()
