"""Where and with how much arithmetic runs, and which numbers chance gives: devices, threads, seeds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    import torch


def step_seed(seed: int, epoch: int, step: int, purpose: str = "") -> int:
    """A seed in [0, 2^63) for the noise of one step: of neighbouring steps, epochs and seeds as unlike as of any two.

    The first epoch is 1, the first step 0. Noises of one step that must not resemble each other (dropout,
    augmentation) name different purposes.
    """
    text = f"{seed}/{epoch}/{step}/{purpose}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def resolve_device(name: str) -> torch.device:
    """The device of run.device: auto (cuda, mps or cpu, the first there is), cpu, cuda, cuda:N or mps.

    Raises:
        ConfigError: it is not known or not there; the message has those that are.
    """
    import torch

    available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    available += ["mps"] if torch.backends.mps.is_available() else []
    available += ["cpu"]
    full_name = {"auto": available[0], "cuda": "cuda:0"}.get(name, name)
    if full_name not in available:
        raise ConfigError(f"run.device = {name!r} is not here.\nAllowed on this machine: auto, {', '.join(available)}.")
    return torch.device(full_name)


def num_cores() -> int:
    """CPU cores that this process may use: its affinity mask, and the quota of its container where there is one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    try:  # cgroup v2: "MICROSECONDS PERIOD", or "max PERIOD"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def set_threads(threads: int, workers: int = 1) -> int:
    """Give this process its CPU threads and return how many; 0 shares out the cores among the workers of this host.

    Denormals count as zero from now on: strong regularization drives weights into them, where CPU arithmetic is
    several times slower.
    """
    import torch

    num_threads = threads or max(1, num_cores() // workers)
    torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)
    return num_threads
