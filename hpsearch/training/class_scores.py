"""What a trained net says of images, in evaluation mode: for weights that are kept, and for the final test.

Shapes: N = images, B = those of a chunk, C = classes (of x: channels), H, W = height and width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hpsearch.config import ModelConfig
from hpsearch.datasets.stored import StoredImages, chunks
from hpsearch.models import build
from hpsearch.training.views import log_probabilities

CHUNK = 250  # images at a time


@torch.no_grad()
def class_scores(
    model: ModelConfig,
    state: Mapping[str, Tensor],
    x_NCHW: Tensor | StoredImages,
    num_classes: int,
    views: str | None = None,
) -> Tensor:
    """logits_NC of a net with these weights and buffers; with `views`, see `log_probabilities`."""
    shape = (x_NCHW.shape[1], x_NCHW.shape[2], x_NCHW.shape[3])
    net = build(model, shape, num_classes).to(x_NCHW.device, x_NCHW.dtype)
    net.load_state_dict(dict(state))
    net.eval()
    if views is not None:
        return torch.cat([log_probabilities(net, x_BCHW, views) for x_BCHW in chunks(x_NCHW, CHUNK)])
    return torch.cat([net(x_BCHW) for x_BCHW in chunks(x_NCHW, CHUNK)])
