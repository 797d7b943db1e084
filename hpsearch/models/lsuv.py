"""Layer-sequential unit variance (Mishkin & Matas 2016): initial weights by what some images make of them.

Shapes: B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpsearch.models.layers import NOISY

NUM_IMAGES = 100  # of the training part
DIGITS = 6  # of a factor: machines, and numbers of threads, differ in the last of sixteen


@torch.no_grad()
def give_unit_variance(net: nn.Module, x_BCHW: Tensor) -> None:
    """Let each layer put out numbers of variance 1, from the images on, in place.

    Args:
        net: with orthogonal weights, and biases at 0, so that one factor for a layer is exact where the paper has a
            loop. Noise is off; batch normalization takes its statistics from these images.
        x_BCHW: normalized, some dozen; all trials of a search need the same.
    """

    def to_unit_variance(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        std = float(output.std(correction=0))
        factor = float(f"{1 / std:.{DIGITS}g}") if std > 0 else 1.0
        layer.weight.mul_(factor)  # type: ignore[operator]
        return output * factor

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(to_unit_variance) for layer in layers]
    try:
        net.train()
        for layer in net.modules():
            if isinstance(layer, NOISY):
                layer.eval()
        like = next(net.parameters())
        net(x_BCHW[:NUM_IMAGES].to(like))
    finally:
        for hook in hooks:
            hook.remove()
    net.train()
