"""Pictures of augmented images are as bright as the net sees them."""

import dataclasses

import numpy as np
import pytest
import torch
from plain_training import make_data

from hpsearch.datasets.augmentation_sheet import mean_and_std, pictures_of_a_step


def test_a_darker_image_is_darker_though_nothing_says_what_white_is():
    data = dataclasses.replace(make_data(num_train=20), augment=("brightness:0.9", "mixup:0.4"))
    epoch = data.epoch(0, 2, 6)
    before, after = pictures_of_a_step(data, 0, 2, 6)
    assert before.shape == after.shape == (6, 8, 8, 3)
    low, high = float(data.x_train_NCHW.min()), float(data.x_train_NCHW.max())
    seen = (epoch.batch(0)[0] - low) / (high - low) * 255
    np.testing.assert_allclose(after[..., 0], seen[:, 0].numpy(), atol=0.51)
    own = (data.x_train_NCHW[epoch.order_M[:6]] - low) / (high - low) * 255
    np.testing.assert_allclose(before[..., 0], own[:, 0].numpy(), atol=0.51)


@pytest.mark.parametrize("num", [20, 600])
def test_the_mean_image_and_the_deviation_of_each_pixel(num):
    data = dataclasses.replace(make_data(num_train=num), augment=("rotate:10",))
    x = data.x_train_NCHW
    mean, std = mean_and_std(data)
    expected = (x.mean(0) - x.min()) / (x.max() - x.min()) * 255
    np.testing.assert_allclose(mean[..., 0], expected[0].numpy(), atol=0.51)
    deviation = x.std(0, correction=0)
    np.testing.assert_allclose(std[..., 1], (deviation / deviation.max() * 255)[0].numpy(), atol=0.51)
    assert torch.equal(x, make_data(num_train=num).x_train_NCHW)
