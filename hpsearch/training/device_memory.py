"""How many trials a device has memory for, and when it has none left for a pack."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpsearch.config import StudyConfig, TrainConfig
from hpsearch.datasets.normalizer import Like
from hpsearch.logs import get_logger

AVERAGES = {
    "sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2, "rmsprop": 2, "adagrad": 1, "nadam": 2, "lion": 1,
}  # fmt: skip
COPIES = (
    4  # of all weights, beside the optimizer's: themselves, gradients, those of the best epoch, those before a step
)
# Of what a backward pass needs, how much is there at its peak: gradients of outputs, workspaces of libraries.
PEAK = 1.5
SHARE = 0.7  # of what is free; the rest is for images, evaluation and what lies between blocks

log = get_logger(__name__)


def free_bytes(device: torch.device) -> int | None:
    """What a device has free, with what torch holds ready; None where nobody tells."""
    if device.type != "cuda":
        return None
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + cached


def largest(config: StudyConfig) -> TrainConfig:
    """[train] of a trial of this search that takes the most memory for its weights."""
    more = {key: value for key, value in (("ema", 0.5), ("accumulate", 2)) if f"train.{key}" in config.space}
    return config.train.model_copy(update=more)


def trial_bytes(net: nn.Module, shape: tuple[int, ...], train: TrainConfig, like: Like) -> float:
    """What one trial takes of a device while it trains on images of this shape, in the precision of `like`."""
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)  # the others are there once
    copies = COPIES + AVERAGES[train.optimizer] + (train.ema > 0) + (train.accumulate > 1)
    numbers = copies * parameters + PEAK * train.batch_size * saved_numbers(net, shape)
    return numbers * like.dtype.itemsize


def saved_numbers(net: nn.Module, shape: tuple[int, ...]) -> float:
    """Numbers that a forward pass in training keeps for the backward pass, per image; 0 where the net fails.

    Net and random state stay as they are.
    """
    own = {tensor.data_ptr() for tensor in [*net.parameters(), *net.buffers()]}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            seen[tensor.data_ptr()] = tensor.numel()
        return tensor

    like = next(net.parameters(), torch.empty(0))
    x_BCHW = torch.zeros(2, *shape, dtype=like.dtype, device=like.device)  # batch normalization needs two
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    was_training = net.training
    try:
        net.train()
        with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = torch.func.functional_call(net, buffers, (x_BCHW,))
        del output
    except Exception as error:
        log.info("how much memory its outputs take is not known: %s", error)
        return 0.0
    finally:
        net.train(was_training)
    return sum(seen.values()) / len(x_BCHW)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller pack may do."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_memory() -> None:
    """Give back what a failed pack has left on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
