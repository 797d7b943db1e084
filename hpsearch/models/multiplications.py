"""How much arithmetic a net is: the multiplications of matrix products and convolutions, as PyTorch runs them.

Shapes: B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hpsearch.logs import get_logger

aten = torch.ops.aten
# Products, with the place of the first factor among the arguments: its last dimension is the one they sum over.
PRODUCTS = {aten.mm: 0, aten.bmm: 0, aten.mv: 0, aten.dot: 0, aten.addmm: 1, aten.baddbmm: 1, aten.addmv: 1}
PLACE_OF_TRANSPOSED = 6  # among the arguments of a convolution

log = get_logger(__name__)


class NetSize(NamedTuple):
    """How large a net is, and how much work one image."""

    parameters: int
    multiply_adds: int | None
    """Of matrix products and convolutions, forward; None where the net could not be looked at."""

    def __str__(self) -> str:
        work = "" if self.multiply_adds is None else f", {self.multiply_adds:,} multiply-adds an image"
        return f"{self.parameters:,} parameters{work}"


def net_size(net: nn.Module, shape: tuple[int, ...]) -> NetSize:
    """Of a net for images of this shape (C, H, W), as the literature counts; net and random state stay as they are."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return NetSize(parameters, _counted(net, shape))


def num_multiplications(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Of one forward pass of one image of this shape (C, H, W), in evaluation mode; at least one per parameter.

    They are counted in the operations that run, so products in a net's plain functions count as those of its layers
    do; of what PyTorch runs in one piece, as an LSTM, and of a net that fails, only the parameters are counted. The
    image has numbers, zeros: a pass on the device meta would have to import torch._dynamo first, 0.8 s for what takes
    one millisecond in LeNet and 30 in a ResNet-18. Net and random state stay as they are.
    """
    parameters, multiply_adds = net_size(net, shape)
    return max(multiply_adds or 0, parameters)


def _counted(net: nn.Module, shape: tuple[int, ...]) -> int | None:
    counter = _Counter()
    like = next(net.parameters(), torch.empty(0))
    x_BCHW = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}  # a forward pass may write to them
    training = {module: module.training for module in net.modules()}
    try:
        net.eval()
        # With gradients, as in training: without them attention runs in one piece.
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), counter:
            torch.func.functional_call(net, buffers, (x_BCHW,))
    except Exception as error:
        log.info("only the parameters are counted: %s", error)
        return None
    finally:
        for module, mode in training.items():
            module.training = mode
    return counter.num_multiplications


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered, as `torch.utils.flop_counter` does, whose import takes 0.12 s."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_multiplications = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch._dynamo is imported, only to be told to skip this

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation in PRODUCTS:
            self.num_multiplications += result.numel() * args[PRODUCTS[operation]].shape[-1]
        elif operation is aten.convolution:  # each weight once per position: of the output, transposed of the input
            x_BCHW, weight = args[:2]
            like = x_BCHW if args[PLACE_OF_TRANSPOSED] else result
            self.num_multiplications += weight.numel() * like.shape[0] * math.prod(like.shape[2:])
        return result
