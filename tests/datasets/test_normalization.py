from __future__ import annotations

import numpy as np
import pytest

from hpsearch.datasets.normalization import CHUNK, fit


def images(dtype: str, num: int = CHUNK + 70) -> np.ndarray:
    x = np.random.default_rng(0).integers(0, 256, (num, 3, 4, 5), dtype=np.uint8)
    return x if dtype == "uint8" else (x / 100).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_statistics_are_those_of_numpy(dtype: str, scale: float) -> None:
    x = images(dtype)
    real = x.astype(np.float64) * (scale / 255 if dtype == "uint8" else 1)  # scale is for bytes only
    np.testing.assert_allclose(fit("pixel", x, scale).apply(x), real - real.mean(0), atol=1e-10 * scale)
    feature = (real - real.mean(0)) / real.std(0)
    np.testing.assert_allclose(fit("feature", x, scale).apply(x), feature, atol=1e-10)
    mean, std = real.mean((0, 2, 3), keepdims=True), real.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(fit("channel", x, scale).apply(x), (real - mean) / std, atol=1e-10)
    np.testing.assert_allclose(fit("none", x, scale).apply(x), real)


@pytest.mark.parametrize("kind", ["feature", "channel"])
def test_a_constant_is_not_divided(kind: str) -> None:
    x = images("float64")
    x[:, 1] = 0.1  # its mean over the images is not 0.1 in floating point
    normalization = fit(kind, x)
    assert (normalization.std[1] == 1).all()
    np.testing.assert_allclose(normalization.apply(x)[:, 1], 0, atol=1e-15)


def test_small_variation_on_a_large_offset_is_measured_well() -> None:
    x = 1e6 + np.random.default_rng(0).standard_normal((1000, 1, 2, 2))
    np.testing.assert_allclose(fit("feature", x).std, x.std(0), rtol=1e-9)


def test_float32_images_are_summed_in_float64() -> None:
    x = np.full((200_000, 1, 1, 1), 0.1, dtype=np.float32)
    x[::2] += np.float32(0.3)
    np.testing.assert_allclose(fit("pixel", x).mean, x.astype(np.float64).mean(0), rtol=1e-12)


def test_apply_keeps_the_type_asked_for() -> None:
    x = images("uint8")
    assert fit("pixel", x).apply(x, np.float32).dtype == np.float32
