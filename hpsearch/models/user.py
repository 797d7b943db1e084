"""Nets of the user's own: `model.name = "module:function"`.

Shapes: B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.usercode import UserCodeError, blame, load
from hpsearch.models.initialization import weight_names


def build_user_net(config: ModelConfig, shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """The net that the user's `function(shape, num_classes, **options)` makes, tried on two images.

    Its weights are those that the function gives it, with PyTorch's generator seeded by `seed`: the same in each
    process and on each device, as long as they are drawn on the CPU. Parameters that need no gradient stay as they
    are. The caller's random state stays, too.

    Raises:
        RefusedError: the name is in the database alone; see `config.usercode`.
        UserCodeError: the function raises, or gives no net from x_BCHW to logits_BC with weights to train.
    """
    name = config.name
    function = load(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        with blame(name, f"calling it with {_called(config, shape, num_classes)}"):
            net = function(shape, num_classes, **config.options)
        if not isinstance(net, nn.Module):
            raise UserCodeError(f"{name} gave {type(net).__name__}.\nAllowed: a torch.nn.Module.")
        _try(name, net, shape, num_classes)
    if not weight_names(net):
        raise UserCodeError(f"{name} gave a net without weights.\nAllowed: trained parameters of 2 or more dimensions.")
    return net


def _called(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> str:
    return ", ".join([str(shape), str(num_classes), *(f"{key}={value!r}" for key, value in config.options.items())])


@torch.no_grad()
def _try(name: str, net: nn.Module, shape: tuple[int, int, int], num_classes: int) -> None:
    """Whether the net takes images as it will be given them: single ones, and in training mode; leaves no trace."""
    like = next(iter([*net.parameters(), *net.buffers()]), torch.empty(0))
    x_BCHW = torch.zeros(2, *shape, device=like.device)
    if not nn.parameter.is_lazy(like):  # a lazy layer has no type yet
        x_BCHW = x_BCHW.to(like.dtype)
    net.eval()
    _check_logits(name, net, x_BCHW, num_classes)
    _check_logits(name, net, x_BCHW[:1], num_classes)
    kept = {key: buffer.clone() for key, buffer in net.named_buffers()}
    net.train()
    _check_logits(name, net, x_BCHW, num_classes)
    for key, buffer in net.named_buffers():  # as the statistics of batch normalization
        buffer.copy_(kept[key])


def _check_logits(name: str, net: nn.Module, x_BCHW: Tensor, num_classes: int) -> None:
    mode = "training" if net.training else "evaluation"
    with blame(name, f"its net, given images of {list(x_BCHW.shape)} in {mode} mode,"):
        logits = net(x_BCHW)
    if not isinstance(logits, Tensor):
        raise UserCodeError(f"{name}: its net puts out {type(logits).__name__}.\nAllowed: a tensor of logits.")
    expected = (len(x_BCHW), num_classes)
    if logits.shape != expected or not logits.is_floating_point():
        raise UserCodeError(
            f"{name}: its net puts out {logits.dtype} of shape {list(logits.shape)} for images of "
            f"{list(x_BCHW.shape)}.\nAllowed: floats of shape {list(expected)}, one logit per class."
        )
