"""How long the gradient of each layer's weights is: whether all layers of a net can learn.

Shapes: B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpsearch.config.losses import CROSS_ENTROPY, Loss
from hpsearch.models import Dropout
from hpsearch.training.data_loss import measured_loss

RANDOM = (nn.modules.dropout._DropoutNd, Dropout)


def gradient_sizes(net: nn.Module, x_BCHW: Tensor, y_B: Tensor, kind: Loss = CROSS_ENTROPY) -> dict[str, float]:
    """Of each weight that trains and is used, by its name without `.weight`: the root mean square of its gradient.

    The gradient is that of the mean loss over these images in one batch, as in a step of training but without
    dropout and penalties; layers of any size compare, since it is by weight. The net's buffers may change, its
    gradients are none in the end.
    """
    net.train()
    for module in net.modules():
        if isinstance(module, RANDOM):
            module.eval()
    weights = {name: each for name, each in net.named_parameters() if each.ndim >= 2 and each.requires_grad}
    if not weights:
        return {}
    with torch.enable_grad():
        loss = measured_loss(kind, net(x_BCHW).unsqueeze(0), y_B).sum()
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {
        name.removesuffix(".weight"): float(gradient.double().square().mean().sqrt())
        for name, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    }
