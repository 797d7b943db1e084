"""The random numbers of a forward pass: seeded per step, and the caller's own left as they were."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def seed_noise(device: torch.device, seed: int) -> None:
    """Seed the device's global generator, from which layers such as dropout draw.

    Not `torch.manual_seed`, which seeds every device there is and takes longer than a small net's forward pass.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    elif device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.manual_seed(seed)


def noise_state(device: torch.device) -> Tensor:
    """Of the generator that `seed_noise` seeds; on the host, without a wait."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0].get_state()
    return torch.default_generator.get_state()


def set_noise_state(device: torch.device, state: Tensor) -> None:
    """Let that generator go on from where `noise_state` found it."""
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].set_state(state)
    else:
        torch.default_generator.set_state(state)


def preserved_rng(device: torch.device) -> AbstractContextManager[None]:
    """Within it the global generators may be seeded; afterwards they are as they were before."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device.index or 0], device_type=device.type)
