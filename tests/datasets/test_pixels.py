"""Pixel values from black to white, and the colours of the training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hpsearch.config import DataConfig
from hpsearch.datasets import pixels
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.preparing import prepare

CPU = torch.device("cpu")
SHAPE = (30, 3, 6, 5)


def images(tmp_path: Path, *, as_bytes: bool, **keys: object) -> TrainingData:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, SHAPE, dtype=np.uint8) if as_bytes else rng.normal(5, 2, SHAPE)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(len(x)) % 2)
    config = DataConfig.model_validate({"source": f"npz:{tmp_path / 'a.npz'}", "val": 6, **keys})
    return prepare(config, CPU, torch.float64, tmp_path)


def raw(data: TrainingData) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Training images in the units in which they are normalized."""
    return data.train_images().numpy() * data.normalization.std + data.normalization.mean


@pytest.mark.parametrize("normalize", ["channel", "pixel", "feature", "none"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_images_go_to_pixel_values_and_back(tmp_path: Path, normalize: str, as_bytes: bool) -> None:
    """Nothing is changed by a factor of 1, or nearly."""
    data = images(tmp_path, as_bytes=as_bytes, normalize=normalize, augment=["brightness:1e-12"], scale=2.0)
    plain = data.augmented_by(())
    for (x, y), (its_x, its_y) in zip(data.batches(0, 1, 7), plain.batches(0, 1, 7), strict=True):
        torch.testing.assert_close(x, its_x, rtol=1e-9, atol=1e-9)
        assert torch.equal(y, its_y)  # type: ignore[arg-type]


@pytest.mark.parametrize("as_bytes", [True, False])
def test_colours_are_those_of_the_training_part(tmp_path: Path, as_bytes: bool) -> None:
    data = images(tmp_path, as_bytes=as_bytes, augment=["rotate:5"], scale=2.0)
    x, found = raw(data), data.colours
    assert found is not None
    of_channels = x.transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(found.mean_C, of_channels.mean(1), rtol=1e-9)
    np.testing.assert_allclose(found.covariance_CC, np.cov(of_channels, bias=True), rtol=1e-9)
    ends = (0.0, 2.0) if as_bytes else (x.min(), x.max())
    np.testing.assert_allclose((found.black, found.white), ends, rtol=1e-9)


def test_what_comes_in_is_the_mean_colour(tmp_path: Path) -> None:
    """0 where images are normalized by channel: what comes in with crop alone, too."""
    data = images(tmp_path, as_bytes=True, augment=["crop:2"])
    with_pixels = data.augmented_by(("crop:2", "brightness:1e-15"))
    for (x, _), (its_x, _) in zip(data.batches(0, 1, 7), with_pixels.batches(0, 1, 7), strict=True):
        torch.testing.assert_close(x, its_x, rtol=1e-12, atol=1e-12)
        assert (x == 0).any()
    cut, _ = data.augmented_by(("cutout:12",)).epoch(0, 1, 24).batch(0)
    inside = cut.flatten(2).abs().amin(2).amax()
    assert float(inside) < 1e-12


def test_images_without_a_range_stay_as_they_are(tmp_path: Path) -> None:
    data = images(tmp_path, as_bytes=False, augment=["contrast:0.5", "pca:0.1", "trivialaugment"], normalize="none")
    flat = replace(data, x_train_NCHW=torch.full(data.x_train_NCHW.shape, 3.0, dtype=torch.float64), colours=None)
    x, _ = flat.epoch(0, 1, 24).batch(0)
    assert torch.isfinite(x).all()


def test_colours_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(tmp_path, as_bytes=True, augment=["rotate:5"])
    monkeypatch.setattr("hpsearch.datasets.device.colours_of", lambda *_: pytest.fail("looked at again"))
    other = data.augmented_by(("cutout:2", "pca:0.1"))
    assert other.colours is data.colours
    other.epoch(0, 1, 5).batch(0)
    assert data.augmented_by(()).epoch(0, 1, 5).pixels is None
    assert pixels.Pixels(data.normalization, data.colours, data.x_val_NCHW).mean.shape == (3, 1, 1)  # type: ignore[arg-type]
