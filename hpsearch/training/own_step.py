"""A step of the user's own, train.step: the loss of a minibatch, from the net and whatever it makes of the images.

Shapes: K = trials in the pack, B = batch, M = numbers of its params, C = channels, H, W = image height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from hpsearch.config import TrainConfig
from hpsearch.config.usercode import UserCodeError, load
from hpsearch.datasets.mixing import Labels
from hpsearch.errors import ConfigError, EngineError
from hpsearch.training.vectors import Vectors

NET = "net."  # before the names of the net's own tensors


class _Around(nn.Module):
    """The net with the step as its forward pass, so that all of it sees one trial's parameters, also by its methods."""

    def __init__(self, net: nn.Module, function: Callable[..., Any], names: tuple[str, ...]) -> None:
        super().__init__()
        self.net = net
        self._function, self._names = function, names

    def forward(self, x_BCHW: Tensor, y_B: Tensor, numbers_M: Tensor) -> Any:
        """What the function returns."""
        return self._function(self.net, (x_BCHW, y_B), dict(zip(self._names, numbers_M.unbind(), strict=True)))


class OwnStep:
    """The function with the numbers of K trials, which stay in place.

    Args:
        train: with the function's name, which is imported.
        vectors: with the numbers.
        class_weights: of shape [C], for a function that returns the losses of images.
        like: of the precision and on the device of the pack.
    """

    def __init__(self, train: TrainConfig, vectors: Vectors, class_weights: Tensor | None, like: Tensor) -> None:
        assert train.step is not None
        self.name = train.step
        self._function = load(train.step)
        self._names = tuple(sorted(train.step_options))
        self._class_weights = None if class_weights is None else class_weights.to(like)
        self.numbers_KM = vectors.step_options.to(like, copy=True)
        self._around: _Around | None = None

    def loss(
        self, net: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x_BCHW: Tensor,
        y_B: Labels, numbers_M: Tensor,
    ) -> Tensor:  # fmt: skip
        """Of one trial, a number; buffers are written in place.

        Raises:
            UserCodeError: the function returns something else than losses.
        """
        if not isinstance(y_B, Tensor):
            raise EngineError("train.step has no labels of two images.\nAllowed: data.augment without mixup, cutmix.")
        if self._around is None or self._around.net is not net:
            self._around = _Around(net, self._function, self._names)
        self._around.training = net.training
        named = {f"{NET}{name}": tensor for each in (parameters, buffers) for name, tensor in each.items()}
        found = functional_call(self._around, named, (x_BCHW, y_B, numbers_M))
        return self._reduced(found, x_BCHW, y_B)

    def _reduced(self, found: Any, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        if not isinstance(found, Tensor) or found.shape not in ((), (len(x_BCHW),)) or not found.is_floating_point():
            what = f"{found.dtype} of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UserCodeError(
                f"{self.name} returned {what} for {len(x_BCHW)} images.\n"
                f"Allowed: the loss, a tensor of shape [] or, of each image, [{len(x_BCHW)}]."
            )
        losses: Tensor = found.to(x_BCHW.dtype)
        if losses.ndim == 0:
            if self._class_weights is not None:
                raise UserCodeError(
                    f"{self.name} returned one loss for all images, so train.class_weights cannot weigh them.\n"
                    "Allowed: the losses of each image; or train.class_weights = none."
                )
            return losses
        if self._class_weights is None:
            return losses.mean()
        weights_B = self._class_weights[y_B]
        return (losses * weights_B).sum() / weights_B.sum()


def refuse_beside_step(kinds: tuple[str, ...], train: TrainConfig) -> None:
    """Whether labels are mixed, of which a step would know nothing.

    Raises:
        ConfigError: they are.
    """
    if train.step is not None and (found := next((k for k in kinds if k.startswith(("mixup", "cutmix"))), None)):
        raise ConfigError(
            f"data.augment has {found}, which mixes labels, and train.step = {train.step!r} is given one an image.\n"
            "Allowed: data.augment without it; a step can mix images and labels itself."
        )
