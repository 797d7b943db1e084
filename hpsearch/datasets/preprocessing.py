"""What was done to the training images, kept with a net's weights, so that new images can be given to it without them.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hpsearch.datasets.arrays import channels_first
from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Array
from hpsearch.datasets.normalization import Normalization
from hpsearch.datasets.normalizer import normalizer
from hpsearch.errors import DataError

KEY = "images"  # in the metadata of a file of weights
MEAN, STD = "images/mean", "images/std"  # among its tensors


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """From an image to what a net takes, and from the number of a class to its name."""

    shape: tuple[int, int, int]  # channels, height, width
    class_names: tuple[str, ...]
    normalization: Normalization
    recipe: Recipe | None
    """How files were decoded; None where the training images came as arrays."""

    @classmethod
    def of(cls, data: TrainingData) -> Self:
        """That of the images that a net is trained on."""
        return cls(data.shape, data.class_names, data.normalization, data.recipe)

    @property
    def file_recipe(self) -> Recipe:
        """How to decode image files: as those of the training set, or as its arrays of bytes would look as files.

        Raises:
            DataError: the net was trained on numbers of no known scale, or on what no image file holds.
        """
        channels, height, width = self.shape
        if self.recipe is not None:
            return self.recipe
        if not self.normalization.from_bytes:
            raise DataError(
                "the net was trained on arrays of floats, and nothing says which float a pixel of an image file would "
                f"be.\nAllowed: npz:FILE with an array x of floats, shape (N, {channels}, {height}, {width})."
            )
        if height != width or channels not in (1, 3):
            raise DataError(
                f"the net was trained on arrays of {channels} x {height} x {width}, which no image file is like.\n"
                f"Allowed: npz:FILE with an array x of bytes, shape (N, {channels}, {height}, {width})."
            )
        return Recipe(size=height, channels=channels, smallest=(width, height), largest=(width, height))

    def array(self, x: Array, name: str) -> Array:
        """Images of the shape and kind of the training images, as N,C,H,W: in any of the shapes that npz files have.

        Raises:
            DataError: they are of another shape or type, or not finite.
        """
        x = x.astype(x.dtype.newbyteorder("="), copy=False)
        from_bytes = self.normalization.from_bytes
        fits = x.dtype == np.uint8 if from_bytes else x.dtype.kind == "f"
        as_is = x.shape[1:] == self.shape or x.ndim not in (2, 3, 4)
        x_NCHW = x if as_is else channels_first(x)
        if not fits or x_NCHW.shape[1:] != self.shape or not len(x_NCHW):
            kind = "uint8" if from_bytes else "floats"
            raise DataError(
                f"{name} holds {x.dtype} in shape {x.shape}.\n"
                f"Allowed: images as the net was trained on, {kind} in shape (N, {', '.join(map(str, self.shape))})."
            )
        if not from_bytes and not np.isfinite(x_NCHW).all():
            row = int(np.flatnonzero(~np.isfinite(x_NCHW).all((1, 2, 3)))[0])
            raise DataError(f"{name}[{row}] holds nan or inf.\nAllowed: finite numbers.")
        return x_NCHW

    def normalize(self, x_BCHW: Array, like: Tensor) -> Tensor:
        """Images as they were stored, as the net takes them: in the precision and on the device of `like`."""
        raw = torch.from_numpy(np.array(x_BCHW, order="C"))
        raw = raw if raw.dtype == torch.uint8 else raw.to(like.dtype)  # not every device takes float64
        return normalizer(self.normalization, like)(raw.to(like.device))

    def pictures(self, x_BCHW: Tensor) -> Array:
        """Normalized images as people look at them: B,H,W,3 in uint8; of other channels than 1 or 3, the first ones."""
        normalization = self.normalization
        stored = x_BCHW.detach().cpu().double().numpy() * normalization.std + normalization.mean
        stored /= normalization.factor
        if not normalization.from_bytes:  # each picture over its own values, since nothing says what white is
            low, high = (each((1, 2, 3), keepdims=True) for each in (stored.min, stored.max))
            stored = (stored - low) / np.maximum(high - low, 1e-12) * 255
        shown = stored[:, :3] if stored.shape[1] >= 3 else stored[:, :1].repeat(3, 1)
        pictures: Array = np.rint(shown).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return pictures

    def tensors(self) -> dict[str, Tensor]:
        """The part that is kept among the weights."""
        return {MEAN: torch.from_numpy(self.normalization.mean), STD: torch.from_numpy(self.normalization.std)}

    def metadata(self) -> dict[str, str]:
        """The rest, as the metadata of a file of weights."""
        recipe = None if self.recipe is None else asdict(self.recipe)
        kept = {
            "shape": self.shape,
            "classes": self.class_names,
            "factor": self.normalization.factor,
            "bytes": self.normalization.from_bytes,
            "recipe": recipe,
        }
        return {KEY: json.dumps(kept)}  # ASCII, whatever is in a folder's name

    @classmethod
    def read(cls, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Self | None:
        """From what the other two gave; None where an older version kept neither.

        Raises:
            DataError: it is not what they give.
        """
        if KEY not in metadata:
            return None
        try:
            kept: dict[str, Any] = json.loads(metadata[KEY])
            channels, height, width = map(int, kept["shape"])
            mean, std = (tensors[name].double().numpy() for name in (MEAN, STD))
            normalization = Normalization(mean, std, float(kept["factor"]), bool(kept["bytes"]))
            return cls((channels, height, width), tuple(map(str, kept["classes"])), normalization, _recipe(kept))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"what is kept of the training images cannot be read: {error!r}") from None


def _recipe(kept: Mapping[str, Any]) -> Recipe | None:
    if (stored := kept["recipe"]) is None:
        return None
    smallest, largest = (tuple(stored[name]) for name in ("smallest", "largest"))
    return Recipe(**{**stored, "smallest": smallest, "largest": largest})
