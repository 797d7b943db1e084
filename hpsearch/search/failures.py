"""What an exception out of a pack means for the worker that trains it."""

from __future__ import annotations

from hpsearch.errors import HpsearchError


class PoisonedDeviceError(HpsearchError):
    """The device refuses further work in this process; another process can go on."""

    exit_code = 75  # EX_TEMPFAIL: a supervisor starts a new process


def first_line(error: Exception) -> str:
    """An exception as one line: its type, and the first line of what it says."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller pack may do."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def is_poisoned(error: Exception) -> bool:
    """Whether CUDA has failed in a way after which the process cannot use it any more, as an assert on the device."""
    import torch

    fatal = getattr(torch, "AcceleratorError", None)
    return (fatal is not None and isinstance(error, fatal)) or "device-side assert" in str(error)
