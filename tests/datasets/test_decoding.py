"""One image as bytes, and the recipe that is the same for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hpsearch.datasets.decoding import Header, Recipe, decode, make_recipe, read_extremes, read_header, why_not

SIZES = {"smallest": (1, 1), "largest": (1, 1)}


def color(size: int = 8) -> Recipe:
    return Recipe(size, 3, **SIZES)


def gray(size: int = 2, **deep: int) -> Recipe:
    return Recipe(size, 1, **SIZES, **deep)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "bmp"), ("LA", "png"), ("L", "webp")]
)
def test_other_kinds_of_pixels_are_converted(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.effect_noise((20, 12), 60).convert("RGB").convert(mode).save(path)
    image = decode(path, color())
    assert (image.shape, image.dtype) == ((3, 8, 8), np.uint8)
    assert image.std() > 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_in_the_alpha_channel_is_shown_on_white(tmp_path: Path, mode: str, channels: int) -> None:
    alpha = np.array([[0, 255], [255, 0]], np.uint8)
    if mode == "P":
        image = Image.fromarray(alpha // 255, mode="P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    else:
        black = np.zeros((2, 2, len(mode)), np.uint8)
        black[..., -1] = alpha
        Image.fromarray(black).save(tmp_path / "a.png")
    shown = decode(tmp_path / "a.png", Recipe(2, channels, **SIZES))
    assert shown.tolist() == [[[255, 0], [0, 255]]] * channels


def test_what_is_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (200, 0, 0, 128)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", color(1)).ravel().tolist() == [227, 127, 127]


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    upright = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 2, axis=1))  # dark above, light below
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright.save(tmp_path / "a.png", exif=exif)
    assert decode(tmp_path / "a.png", gray())[0].tolist() == [[255, 255], [0, 0]]
    deep = Image.fromarray(np.array([[0, 0], [500, 500]], np.uint16))
    deep.save(tmp_path / "b.png", exif=exif)
    assert decode(tmp_path / "b.png", gray(white=500))[0].tolist() == [[255, 255], [0, 0]]


@pytest.mark.parametrize(
    ("dtype", "suffix", "mode"), [("<u2", "png", "I;16"), (">u2", "tif", "I;16B"), ("<i4", "tif", "I")]
)
def test_deep_pixels_are_spread_over_the_values_in_use(tmp_path: Path, dtype: str, suffix: str, mode: str) -> None:
    path = tmp_path / f"scan.{suffix}"
    Image.fromarray(np.array([[0, 1024], [2048, 4095]], dtype=dtype)).save(path)
    header = read_header(path)
    assert header == Header(mode, 2, 2)
    recipe = make_recipe([header], [read_extremes(path)], 2)
    assert (recipe.channels, recipe.num_deep, recipe.black, recipe.white) == (1, 1, 0, 4095)
    assert decode(path, recipe).tolist() == [[[0, 64], [128, 255]]]
    assert decode(path, gray())[0, 1, 1] == 16, "without a deep training image, by all 16 bits"
    assert decode(path, Recipe(2, 3, **SIZES, white=2048)).tolist() == [[[0, 128], [255, 255]]] * 3


def test_values_below_0_are_darker_than_it(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"  # Hounsfield units
    Image.fromarray(np.array([[-1000, 0], [40, 1000]], dtype=np.int32)).save(path)
    assert decode(path, make_recipe([read_header(path)], [read_extremes(path)], 2)).tolist() == [[[0, 128], [133, 255]]]


@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**16)), min_size=1))
def test_a_range_of_deep_pixels_is_never_empty(ranges: list[tuple[int, int]]) -> None:
    extremes = [(low, low + span) for low, span in ranges]
    recipe = make_recipe([Header("I", 4, 4)] * len(extremes), extremes, None)
    assert recipe.black <= 0
    assert recipe.white > recipe.black
    assert all(recipe.black <= low and high <= recipe.white for low, high in extremes)


def test_floating_point_numbers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="floating-point") as refused:
        decode(tmp_path / "a.tif", gray())
    assert why_not(refused.value) == "its pixels are floating-point numbers"


@pytest.mark.parametrize(
    ("sizes", "given", "size"),
    [
        ([(640, 480)] * 3, None, 64),
        ([(640, 480)] * 3, 224, 224),
        ([(28, 28)] * 3, None, 28),
        ([(48, 48)] * 3, None, 48),
        ([(30, 90), (50, 40), (700, 900)], None, 40),  # short sides 30, 40, 700
        ([(4, 4)] * 3, None, 8),
        ([(3, 100), (60, 50), (50, 60), (9, 9)], None, 9),
    ],
)
def test_the_size_is_that_of_the_images_within_bounds(
    sizes: list[tuple[int, int]], given: int | None, size: int
) -> None:
    headers = [Header("RGB", *each) for each in sizes]
    recipe = make_recipe(headers, [], given)
    assert recipe.size == size
    assert make_recipe(headers[::-1], [], given) == recipe, "in any order"
    areas = [width * height for width, height in sizes]
    assert np.prod(recipe.smallest) == min(areas)
    assert np.prod(recipe.largest) == max(areas)


@pytest.mark.parametrize(
    ("modes", "channels"), [(["L", "1", "LA"], 1), (["I;16", "L"], 1), (["L", "RGB"], 3), (["P"], 3), (["RGBA"], 3)]
)
def test_one_channel_where_all_training_images_are_gray(modes: list[str], channels: int) -> None:
    assert make_recipe([Header(mode, 9, 9) for mode in modes], [], None).channels == channels
