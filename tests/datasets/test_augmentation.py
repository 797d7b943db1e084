from __future__ import annotations

import numpy as np
import pytest
import torch

from hpsearch.datasets.augmentation import augment, draw_noise


@pytest.mark.parametrize("shape", [(7, 3, 5, 6), (1, 1, 4, 4), (9, 2, 3, 8)])
@pytest.mark.parametrize("padding", [1, 2, 6])
def test_crop_is_that_of_one_image_at_a_time(shape: tuple[int, ...], padding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    offsets = draw_noise(f"crop:{padding}", shape[0], generator)
    result = augment(f"crop:{padding}", x, offsets)
    for image, (top, left), cropped in zip(x.numpy(), offsets.tolist(), result.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        np.testing.assert_array_equal(cropped, padded[:, top : top + shape[2], left : left + shape[3]])


def test_hflip_is_that_of_one_image_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, 4, 5, generator=generator)
    flips = draw_noise("hflip", 20, generator)
    result = augment("hflip", x, flips)
    for image, flip, flipped in zip(x.numpy(), flips.tolist(), result.numpy(), strict=True):
        np.testing.assert_array_equal(flipped, image[:, :, ::-1] if flip else image)


def test_noise_covers_all_that_can_happen() -> None:
    generator = torch.Generator().manual_seed(0)
    assert 450 < draw_noise("hflip", 1000, generator).sum() < 550
    offsets = draw_noise("crop:2", 1000, generator)
    assert set(map(tuple, offsets.tolist())) == {(top, left) for top in range(5) for left in range(5)}
