"""One image file as an array of bytes, by a recipe that is the same for all images of a data set."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hpsearch.datasets.images import Array

if TYPE_CHECKING:
    from PIL.Image import Image

# Of the size that is taken from the images, in pixels. A coarse search with the convnet on 2,400 images would take 6
# minutes on two cores at 32, 40 at 64, 100 at 96 and 150 at 128 (`--dry-run`, see docs/log.md).
SMALLEST, LARGEST = 8, 64
GRAY = ("1", "L", "LA")  # Pillow's modes of one channel


class Header(NamedTuple):
    """What a file says of its image before anything is decoded."""

    mode: str  # Pillow's
    width: int
    height: int

    @property
    def is_deep(self) -> bool:
        """Whether its pixels are integers of 16 or 32 bits; such images are gray."""
        return self.mode.startswith("I")


@dataclass(frozen=True)
class Recipe:
    """How images are decoded; all of it is taken from the training images, and holds for those of every split."""

    size: int  # height and width
    channels: int  # 1 or 3
    smallest: tuple[int, int]  # width and height in the files
    largest: tuple[int, int]
    num_deep: int = 0  # training images of 16 or 32 bits
    black: int = 0  # value of a deep pixel that becomes 0
    white: int = 2**16 - 1  # value of a deep pixel that becomes 255
    crop: bool = False  # to the square in the middle; else the whole image is squeezed


def make_recipe(headers: Sequence[Header], extremes: Sequence[tuple[int, int]], size: int | None) -> Recipe:
    """The recipe for training images with these headers; `extremes` are least and greatest pixel of each deep one.

    Where no size is given it is the median of their short sides, from 8 to 64. There is one channel if all are gray.
    Deep pixels are spread over the values in use, as 12 bits in files of 16 would be nearly black otherwise; 0 stays
    black where nothing is below it.
    """
    by_area = sorted(headers, key=lambda header: (header.width * header.height, header.width))
    recipe = Recipe(
        size=size or min(max(SMALLEST, statistics.median_low(min(header[1:]) for header in headers)), LARGEST),
        channels=1 if all(header.mode in GRAY or header.is_deep for header in headers) else 3,
        smallest=by_area[0][1:],
        largest=by_area[-1][1:],
        num_deep=len(extremes),
    )
    if not extremes:
        return recipe
    black = min(0, *(low for low, _ in extremes))
    return replace(recipe, black=black, white=max(black + 1, *(high for _, high in extremes)))


@contextmanager
def pillow_warnings() -> Iterator[None]:
    """In it Pillow raises where an image is too large, in any thread, and is silent about oddities that it can read."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_header(path: Path) -> Header:
    """Mode and size of an image. Raises whatever Pillow does."""
    from PIL import Image

    with Image.open(path) as image:
        return Header(image.mode, *image.size)


def read_extremes(path: Path) -> tuple[int, int]:
    """Least and greatest pixel of a deep image. Raises whatever Pillow does."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image)
    return int(pixels.min()), int(pixels.max())


def decode(path: Path, recipe: Recipe) -> Array:
    """One image as C,size,size uint8: upright, on white, a square, bilinear with antialiasing.

    Squeezed, since what tells a class may be at the border; or, with `recipe.crop`, its short side becomes `size` and
    the square in the middle is kept.

    Raises:
        Exception: of any kind; Pillow's decoders raise all kinds for damaged files. `why_not` puts it in words.
    """
    from PIL import Image, ImageOps

    square = (recipe.size, recipe.size)
    with Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        box = _middle(*image.size) if recipe.crop else None
        pixels = np.asarray(_eight_bits(image, recipe).resize(square, Image.Resampling.BILINEAR, box))
    return pixels.reshape(*square, recipe.channels).transpose(2, 0, 1)


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    """The largest square in the middle: left, top, right, bottom."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _eight_bits(image: Image, recipe: Recipe) -> Image:
    """Gray or RGB, without transparency."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode.startswith("I"):
        scale = 255 / (recipe.white - recipe.black)
        pixels = np.rint((np.asarray(image).astype(np.float64) - recipe.black) * scale)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        # As viewers show it. What is under transparent pixels is whatever the program that wrote them left there.
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    mode = "L" if recipe.channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def why_not(error: Exception) -> str:
    """Why an image cannot be decoded, in words."""
    from PIL import Image, UnidentifiedImageError

    match error:
        case UnidentifiedImageError():
            return "it is no image, or of a kind that Pillow does not know"
        case Image.DecompressionBombWarning() | Image.DecompressionBombError():
            return f"it claims more than the {Image.MAX_IMAGE_PIXELS:,} pixels that an image may have"
        case OSError(strerror=str(reason)):
            return reason
    return str(error) or type(error).__name__
