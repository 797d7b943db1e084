"""Whether images fit into memory, or stay on disk."""

from __future__ import annotations

import os
from pathlib import Path

import torch

SHARE = 0.5  # of what is free now, that images may take where nobody says how much


def room_for_images(device: torch.device, given: int) -> int:
    """Bytes that images may take on this device: as many as are given, or a share of what is free on it and here."""
    if given:
        return given
    free = free_memory()
    if device.type == "cuda":
        free = min(free, torch.cuda.mem_get_info(device)[0])
    return int(SHARE * free)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of this machine's memory, or of its container's, that could be taken now; all, where it does not say."""
    found = []
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    except (OSError, ValueError, StopIteration):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    group = root / "sys/fs/cgroup"  # of version 2
    try:
        limit, taken = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        found.append(limit - taken + int(stat["inactive_file"]))  # copies of files go when there is need
    except (OSError, ValueError, KeyError):  # no container, or "max"
        pass
    return max(0, min(found))
