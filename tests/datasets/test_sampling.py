"""The order of an epoch's images: each once, or as many of each class."""

import dataclasses

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_training import PlainTrial, make_config, make_data

from hpsearch.config import DataConfig
from hpsearch.datasets.preparing import prepare
from hpsearch.datasets.sampling import draw_order
from hpsearch.results import TrialSpec
from hpsearch.training import Pack


def order(sampling, y_N, seed=0):
    return draw_order(sampling, y_N, torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 5]), min_size=1, max_size=60), st.integers(0, 9))
def test_balanced_classes_come_equally_often_and_no_image_before_its_turn(labels, seed):
    y_N = torch.tensor(labels)
    rows = order("balanced", y_N, seed)
    assert len(rows) == len(y_N)
    counts = y_N[rows].bincount(minlength=6)[y_N.unique()]
    assert counts.max() - counts.min() <= 1
    for label in y_N.unique():
        times = rows[y_N[rows] == label].bincount(minlength=len(y_N))[y_N == label]
        assert times.max() - times.min() <= 1
    assert torch.equal(rows, order("balanced", y_N, seed))


def test_each_epoch_and_seed_draws_anew():
    y_N = torch.arange(40) % 3 // 2
    assert not torch.equal(order("balanced", y_N), order("balanced", y_N, 1))
    assert torch.equal(order("shuffled", y_N), torch.randperm(40, generator=torch.Generator().manual_seed(0)))


def test_it_goes_from_the_study_file_into_every_engine():
    config = DataConfig(source="synthetic", synthetic={"shape": [1, 4, 4], "classes": 3}, sampling="balanced")
    assert prepare(config, torch.device("cpu"), torch.float32).sampling == "balanced"
    data = make_data(num_train=60)
    few = (data.y_train_N != 1) | (torch.arange(60) % 5 == 0)
    parts = {"x_train_NCHW": data.x_train_NCHW[few], "y_train_N": data.y_train_N[few]}
    data = dataclasses.replace(data, **parts, sampling="balanced")
    y_N = torch.cat([y_B for _, y_B in data.batches(0, 1, 6)])
    counts = y_N.bincount()
    assert counts.max() - counts.min() <= 1
    config = make_config(epochs=2, explosion=1e9, model__name="lenet")
    plain = PlainTrial(config, data).run().state()
    for engine in ("loop", "vmap", "fused"):
        pack = Pack(config, data, [TrialSpec(0)], engine=engine)
        while not pack.done:
            pack.run_epoch()
        for name, tensor in pack.state(0, "last").items():
            torch.testing.assert_close(tensor, plain[name], rtol=1e-9, atol=1e-9)
