"""When a device has no memory left for a pack."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller pack may do."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_memory() -> None:
    """Give back what a failed pack has left on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
