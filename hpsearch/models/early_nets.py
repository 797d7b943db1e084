"""A library's net that ends early: its first stages, the mean over all places of what they give, and a head of its own.

What reaches the stage behind is taken out by an exception, so that nets of any library and any way through their layers
end where they are told, and what would come behind need not be there. Both classes are a part of scripts that use a net
without hpsearch, so they take nothing from here but torch.

Source: CS231n, "transfer learning": with few images that are not like those of the first training, the features of
earlier stages, which say less of its classes. Shapes: B = batch, C = channels, H, W = height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hpsearch.errors import ConfigError
from hpsearch.models.stages import head_names, parts_of, set_head


class End(nn.Module):
    """Where a net ends: what comes here is its features."""

    class Reached(Exception):  # noqa: N818 - it is no error
        """Carries them out."""

    def forward(self, x: torch.Tensor, *_others: object, **_options: object) -> torch.Tensor:
        """Never comes back."""
        raise self.Reached(x)


class EarlyNet(nn.Module):
    """A net up to its module `end`, which is left out with others, and a head on what would come there."""

    def __init__(
        self, body: nn.Module, head: nn.Module, end: str, left_out: tuple[str, ...], channels_last: bool
    ) -> None:
        super().__init__()
        for name in (end, *left_out):  # something stays in each place, as a net may ask for it before
            body.set_submodule(name, End())
        self.body, self.head, self.end, self.left_out = body, head, end, left_out
        self.channels_last = channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images; places are the height and width of a convolution, or the tokens of a transformer."""
        try:
            self.body(x)
        except End.Reached as reached:
            x = reached.args[0]
        logits: torch.Tensor = self.head(self.pooled(x, self.channels_last))
        return logits

    @staticmethod
    def pooled(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
        """Means over the places: B,C."""
        if x.ndim == 2:
            return x
        return x.mean((2, 3)) if x.ndim == 4 and not channels_last else x.flatten(1, -2).mean(1)


def end_early(
    net: nn.Module, stages: int, shape: tuple[int, int, int], make_head: Callable[[int], nn.Module], name: str
) -> EarlyNet:
    """The first stages of a net, with a new head that is not initialized. The net is used up.

    Args:
        net: with a head.
        stages: so many of them.
        shape: of its images.
        make_head: from the number of features.
        name: of the net, for a message.

    Raises:
        ConfigError: there are not so many stages before another one, or what they give is no tensor of features.
    """
    parts = parts_of(net)
    if not stages < len(parts.stages):
        raise ConfigError(
            f"model.features = {stages}: {name} has {len(parts.stages)} stages, 'last' is what the last one gives.\n"
            f"Allowed: last, or 1 to {len(parts.stages) - 1}."
        )
    end, *others = [module for stage in parts.stages[stages:] for module in stage.modules]
    left_out = (*others, *head_names(net))
    early = EarlyNet(net, nn.Identity(), end, left_out, channels_last=False)
    net.left_out = (end, *left_out)  # type: ignore[assignment]
    with torch.no_grad():
        early.eval()
        try:
            early.body(torch.zeros(1, *shape))
            found = None
        except End.Reached as reached:
            found = reached.args[0]
        except (AttributeError, RuntimeError, TypeError, ValueError):
            found = None
    early.train()
    if not isinstance(found, torch.Tensor) or found.ndim not in (2, 3, 4):
        raise ConfigError(
            f"model.features = {stages}: {name} does not go through its stages one by one.\n"
            "Allowed: last, or another net."
        )
    early.channels_last = has_channels_last(found, shape)
    early.head = make_head(early.pooled(found, early.channels_last).shape[1])
    set_head(early, ("head",))
    return early


def has_channels_last(features: torch.Tensor, shape: tuple[int, int, int]) -> bool:
    """Whether they are B,H,W,C, as those of a Swin transformer, by the sides of square images."""
    _, height, width = shape
    return features.ndim == 4 and height == width and features.shape[1] == features.shape[2] != features.shape[3]
