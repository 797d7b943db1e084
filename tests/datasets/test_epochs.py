"""An epoch's minibatches: the same ones by their number and by places that the device alone knows."""

import dataclasses

import pytest
import torch
from plain_training import make_data

from hpsearch.config.augmentations import KINDS
from hpsearch.datasets.epoch import Epoch


@pytest.fixture(scope="module")
def data():
    return dataclasses.replace(make_data(num_train=23, shape=(2, 5, 4)), augment=("hflip", "crop:1"))


def places(epoch, step):
    return torch.arange(*epoch.bounds[step])


EVERY_KIND = tuple(
    kind.form.replace(kind.letter, kind.example) for kind in KINDS.values() if kind.name not in ("mixup", "cutmix")
)


def labels(y):
    """Those of images, one or two, and the share."""
    return [y] if isinstance(y, torch.Tensor) else [y.first_B, y.second_B, y.share]


@pytest.mark.parametrize("kinds", [("hflip", "crop:1"), (*EVERY_KIND, "mixup:1"), ("rotate:20", "cutmix:1")])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 22, 23, 50])
def test_batches_are_found_by_places(data, batch_size, kinds):
    data = dataclasses.replace(data, augment=kinds)
    epoch = data.epoch(3, 2, batch_size)
    batches = list(data.batches(3, 2, batch_size))
    assert epoch.num_batches == data.num_batches(batch_size) == len(batches)
    for step, (x, y) in enumerate(batches):
        assert epoch.size(step) == len(y)
        for mine in (epoch.batch(step), epoch.gather(places(epoch, step))):
            assert torch.equal(mine[0], x)
            for own, given in zip(labels(mine[1]), labels(y), strict=True):
                assert torch.equal(own, given)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_image_is_augmented_by_its_epoch_alone(data, kind):
    """Whatever the size of the batches, and alike in each process; in each epoch otherwise."""
    kind = kind.replace("translate:0.1", "translate:0.5")  # on images of 5 x 4
    data = dataclasses.replace(data, augment=(kind,))
    whole = data.epoch(3, 2, 23).batch(0)[0]
    torch.testing.assert_close(torch.cat([x for x, _ in data.batches(3, 2, 4)]), whole[:23], rtol=1e-12, atol=1e-12)
    assert torch.equal(dataclasses.replace(data).epoch(3, 2, 23).batch(0)[0], whole)
    noises = [data.epoch(seed, number, 4).noises[0][1] for seed, number in ((3, 2), (3, 3), (4, 2))]
    assert not torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])


def test_what_is_off_draws_nothing(data):
    plain, off = (
        dataclasses.replace(data, augment=kinds) for kinds in (("crop:1",), ("rotate:0", "crop:1", "mixup:0"))
    )
    for (x, y), (its_x, its_y) in zip(plain.batches(0, 1, 5), off.batches(0, 1, 5), strict=True):
        assert torch.equal(x, its_x)
        assert torch.equal(y, its_y)


def test_mixed_batches_join_other_epochs(data):
    data = dataclasses.replace(data, augment=("mixup:1",))
    first, second = (data.epoch(0, number, 10) for number in (1, 2))
    both = Epoch.joined([first, second], 7, 5)
    x, y = both.gather(places(both, 3))
    assert torch.equal(x, second.batch(0)[0])
    assert torch.equal(y.second_B, second.batch(0)[1].second_B)
    assert y.share == second.batch(0)[1].share != first.batch(0)[1].share


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
