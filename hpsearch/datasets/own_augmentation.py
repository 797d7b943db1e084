"""Augmentation of the user's own making: `data.augment = ["module:function"]`, of images alone or of their labels, too.

The function is given random numbers that were drawn before, and draws none: so a step is the same in each engine, on
each device, in a recorded step, and where a trial goes on.

Shape suffixes: N = images of an epoch, B = batch, K = numbers for an image, C = channels, of labels: classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hpsearch.config.augmentations import MIXES, active, is_own
from hpsearch.config.usercode import UserCodeError, blame, load
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.mixing import Labels, SoftLabels
from hpsearch.datasets.normalizer import Like

LABELS = ("y", "labels", "label", "targets", "target")
DRAWS = ("draws", "noise")
ALLOWED = (
    "Allowed: def function(x, draws) or function(x, y, draws), with x B,C,H,W in pixel values, y B,C shares of the "
    "classes, draws B,K in [0, 1); it returns x, or (x, y)."
)
SEED = 0  # of what it is tried on
SIZES = (4, 3)  # images that it is tried on
TOLERANCE = 1e-3  # of shares that are to be 1 together


@dataclass(frozen=True)
class OwnAugmentation:
    """A user's function, and what it wants to know.

    Its attribute `draws` says how many numbers it wants for an image, 1 without it; or draws them, a function of the
    number of images and a generator of PyTorch, on the CPU.
    """

    name: str
    function: Callable[..., Any]
    takes: tuple[str, ...]
    """`images`, and behind it `labels` and `draws` as its arguments are."""

    @property
    def takes_labels(self) -> bool:
        """Whether it changes labels, too."""
        return "labels" in self.takes

    def draw(self, draws: Draws) -> Tensor:
        """For all images of an epoch: [N, ...].

        Raises:
            UserCodeError: a function of the user's draws something else.
        """
        wanted = getattr(self.function, "draws", 1)
        if not callable(wanted):
            return torch.rand(draws.num, int(wanted), generator=draws.generator)
        with blame(self.name, f"calling its draws with {draws.num} and a generator"):
            found = wanted(draws.num, draws.generator)
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != draws.num:
            raise UserCodeError(
                f"{self.name}.draws gave {_shown(found)} for {draws.num} images.\n"
                f"Allowed: a number; or a function of (num, generator), which returns a tensor of num rows."
            )
        return found

    def __call__(self, x_BCHW: Tensor, y_B: Labels, noise_B: Tensor, num_classes: int) -> tuple[Tensor, Labels]:
        """Images and labels after it; labels stay what they are where it takes none."""
        given = {"images": x_BCHW, "draws": noise_B}
        if not self.takes_labels:
            x = self.function(*(given[each] for each in self.takes))
            return x.to(x_BCHW.dtype), y_B
        rows_BC = y_B.rows_BC if isinstance(y_B, SoftLabels) else _rows(y_B, num_classes, x_BCHW.dtype)
        given["labels"] = rows_BC
        x, rows = self.function(*(given[each] for each in self.takes))
        return x.to(x_BCHW.dtype), SoftLabels(rows.to(rows_BC.dtype))


@lru_cache(maxsize=64)
def own_augmentation(name: str) -> OwnAugmentation:
    """The function of that name.

    Raises:
        RefusedError: the name is in the database alone; see `config.usercode`.
        UserCodeError: it cannot be imported, or takes other arguments.
    """
    function = load(name)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise UserCodeError(f"{name} does not say what arguments it takes.\n{ALLOWED}") from None
    names = [each.name for each in parameters if each.default is each.empty and each.kind not in _NOT_GIVEN]
    match names:
        case [_]:
            takes: tuple[str, ...] = ("images",)
        case [_, second]:
            takes = ("images", "labels" if second in LABELS else "draws")
        case [_, second, third]:
            swapped = second in DRAWS or third in LABELS
            takes = ("images", "draws", "labels") if swapped else ("images", "labels", "draws")
        case _:
            raise UserCodeError(f"{name} takes ({', '.join(names)}).\n{ALLOWED}")
    return OwnAugmentation(name, function, takes)


def refuse_unfit(
    kinds: tuple[str, ...],
    shape: tuple[int, int, int],
    num_classes: int,
    like: Like,
    one_class: str | None = None,
) -> None:
    """Try the user's functions in a list of data.augment on a few images.

    Args:
        kinds: as data.augment has them.
        shape: of an image.
        num_classes: of the labels.
        like: of their precision, on their device.
        one_class: the key that goes by one class for each image, with its value; None where none does.

    Raises:
        UserCodeError: one raises, gives something else, or would not be the same everywhere.
    """
    for name in filter(is_own, kinds):
        own = own_augmentation(name)
        mixing = [str(each) for each in active(kinds) if each.kind.name in MIXES]
        if own.takes_labels and mixing:
            raise UserCodeError(
                f"data.augment has {name}, which takes labels, and {mixing[0]}.\n"
                "Allowed: one of them, since each mixes the labels of images."
            )
        if own.takes_labels and one_class is not None:
            raise UserCodeError(
                f"data.augment has {name}, which gives shares of all classes, beside {one_class}.\n"
                "Allowed: one of them, since the latter goes by one class for each image."
            )
        for num in SIZES:
            _try(own, num, shape, num_classes, like)


def _try(own: OwnAugmentation, num: int, shape: tuple[int, int, int], num_classes: int, like: Like) -> None:
    noises = [own.draw(Draws(num, shape, ((0, num),), torch.Generator().manual_seed(SEED))) for _ in range(2)]
    if not torch.equal(*noises):
        raise UserCodeError(f"{own.name}.draws gives other numbers each time.\nAllowed: all from its generator.")
    noise_B = noises[0].to(like.device)
    x_BCHW = torch.rand(num, *shape, generator=torch.Generator().manual_seed(SEED)).to(like.device, like.dtype)
    y_B = torch.arange(num, device=like.device) % num_classes
    with blame(own.name, f"calling it with images of {[num, *shape]}"):
        made = [own.function(*_arguments(own, x_BCHW, y_B, noise_B, num_classes)) for _ in range(2)]
    for each in made:
        _check(own, each, x_BCHW, num_classes)
    one, other = (each if isinstance(each, tuple | list) else (each,) for each in made)
    if not all(map(torch.equal, one, other)):
        raise UserCodeError(
            f"{own.name} gives other images each time.\nAllowed: random numbers from draws alone; see {own.name}.draws."
        )
    if not torch.equal(noise_B, noises[1].to(like.device)):
        raise UserCodeError(f"{own.name} writes into draws.\nAllowed: to change x and y; a copy of draws.")
    _refuse_reading(own, x_BCHW, y_B, noise_B, num_classes)


def _arguments(own: OwnAugmentation, x_BCHW: Tensor, y_B: Tensor, noise_B: Tensor, num_classes: int) -> list[Tensor]:
    rows_BC = _rows(y_B, num_classes, x_BCHW.dtype)
    given = {"images": x_BCHW.clone(), "labels": rows_BC, "draws": noise_B}
    return [given[each] for each in own.takes]


def _check(own: OwnAugmentation, made: Any, x_BCHW: Tensor, num_classes: int) -> None:
    """Whether it is what it should be."""
    pair = made if own.takes_labels else (made,)
    if not isinstance(pair, tuple | list) or len(pair) != len({"labels", "images"} & set(own.takes)):
        raise UserCodeError(f"{own.name} returns {_shown(made)}.\n{ALLOWED}")
    shapes = (tuple(x_BCHW.shape), (len(x_BCHW), num_classes))
    for what, each, expected in zip(("images", "labels"), pair, shapes, strict=False):
        fits = isinstance(each, Tensor) and tuple(each.shape) == expected and each.is_floating_point()
        if not fits or each.device != x_BCHW.device:
            raise UserCodeError(
                f"{own.name} returns {_shown(each)} as {what}.\n"
                f"Allowed: floats of shape {list(expected)} on {x_BCHW.device}, the device of x."
            )
        if not each.isfinite().all():
            raise UserCodeError(f"{own.name} returns {what} that are not finite.\nAllowed: numbers.")
    if own.takes_labels and (pair[1].min() < 0 or (pair[1].sum(1) - 1).abs().max() > TOLERANCE):
        raise UserCodeError(
            f"{own.name} returns labels whose shares are not 1 together.\n"
            "Allowed: rows of shares of the classes, of 0 or more, as share * y + (1 - share) * y.flip(0)."
        )


def _refuse_reading(own: OwnAugmentation, x_BCHW: Tensor, y_B: Tensor, noise_B: Tensor, num_classes: int) -> None:
    """Whether Python looks at numbers on the way: recorded steps have none, and others would wait for them."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensorMode,
    )

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(each) for each in _arguments(own, x_BCHW, y_B, noise_B, num_classes)]
        try:
            own.function(*fakes)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise UserCodeError(
                f"{own.name} looks at the numbers in its tensors ({error.func}).\n"
                "Allowed: what the device does by itself: torch.where in place of if, no .item(), no masks as indices."
            ) from None
        except Exception:  # no fault of the function's: it has run with tensors
            return


def _rows(y_B: Labels, num_classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot, in float32 or more."""
    assert isinstance(y_B, Tensor), "labels are mixed once"
    classes_C = torch.arange(num_classes, device=y_B.device)
    return (y_B[:, None] == classes_C).to(torch.promote_types(dtype, torch.float32))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {list(value.shape)} on {value.device}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__


_NOT_GIVEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
