"""An epoch's minibatches: the same ones by their number and by places that the device alone knows."""

import dataclasses

import pytest
import torch
from plain_training import make_data

from hpsearch.datasets.epoch import Epoch


@pytest.fixture(scope="module")
def data():
    return dataclasses.replace(make_data(num_train=23, shape=(2, 5, 4)), augment=("hflip", "crop:1"))


def places(epoch, step):
    return torch.arange(*epoch.bounds[step])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 22, 23, 50])
def test_batches_are_found_by_places(data, batch_size):
    epoch = data.epoch(3, 2, batch_size)
    batches = list(data.batches(3, 2, batch_size))
    assert epoch.num_batches == data.num_batches(batch_size) == len(batches)
    for step, (x, y) in enumerate(batches):
        assert epoch.size(step) == len(y)
        for mine in (epoch.batch(step), epoch.gather(places(epoch, step))):
            assert torch.equal(mine[0], x)
            assert torch.equal(mine[1], y)


def test_joined_epochs_are_the_batches_of_one_after_the_other(data):
    first, second = (data.epoch(0, number, 10) for number in (1, 2))
    both = Epoch.joined([first, second], 7, 5)
    assert (both.number, both.num_batches) == (7, 5)
    for step, (epoch, own) in enumerate([(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]):
        assert torch.equal(both.gather(places(both, step))[0], epoch.batch(own)[0])


def test_an_epoch_takes_in_another_in_the_same_memory(data):
    own, given = data.epoch(0, 1, 10).copy(), data.epoch(0, 2, 10)
    tensors = [own.order_M, *dict(own.noises).values()]
    before = [tensor.data_ptr() for tensor in tensors]
    assert own.fits(given)
    own.take(given)
    assert torch.equal(own.batch(1)[0], given.batch(1)[0])
    assert [tensor.data_ptr() for tensor in tensors] == before
    assert not torch.equal(data.epoch(0, 1, 10).order_M, own.order_M)
    assert not own.fits(dataclasses.replace(data, augment=()).epoch(0, 1, 10))


@pytest.mark.parametrize(
    ("num_batches", "expected"),
    [(1, [(0, 1)]), (2, [(0, 1), (1, 2)]), (5, [(0, 3), (3, 4), (4, 5)]), (7, [(0, 3), (3, 6), (6, 7)])],
)
def test_the_last_step_is_a_stretch_for_itself(data, num_batches, expected):
    assert [(steps.start, steps.stop) for steps in data.stretches(num_batches, 3)] == expected
