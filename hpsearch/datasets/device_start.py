"""A GPU gets ready in a thread while this process reads images: driver, context, and cuBLAS for matrix products.

What needs the device meanwhile waits for the thread, by torch's own lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from hpsearch.logs import get_logger
from hpsearch.phases import phase

log = get_logger(__name__)


def _start_cuda(device: torch.device) -> None:
    with torch.cuda.device(device):
        ones_NN = torch.ones(8, 8, device=device)
        (ones_NN @ ones_NN).sum().item()  # cuBLAS has its handle now, which goes to whoever is next


STARTS: dict[str, Callable[[torch.device], None]] = {"cuda": _start_cuda}
"""How a device is made ready, by its type; the others are ready."""

_starting: dict[torch.device, threading.Thread] = {}
_lock = threading.Lock()


def start_device(device: torch.device) -> threading.Thread | None:
    """Have a device made ready beside what this process does next; gives the thread that does, or did, if one does.

    It is no daemon: a process that ends meanwhile waits for it, since the interpreter cannot go away under CUDA's feet.
    """
    start = STARTS.get(device.type)
    if start is None:
        return None
    with _lock:
        if device not in _starting:
            _starting[device] = threading.Thread(target=_start, args=(start, device), name=f"start of {device}")
            _starting[device].start()
        return _starting[device]


def _start(start: Callable[[torch.device], None], device: torch.device) -> None:
    """An error is but logged: the thread that needs the device will run into it itself, and knows what to do."""
    try:
        with phase(device.type):
            start(device)
    except Exception as error:
        log.info("%s could not be made ready beside the images: %s", device, str(error).partition("\n")[0])
