"""What a benchmark ran on: processor, cores, load, versions, and the peaks of the device that shares are shares of."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hpsearch.runtime import num_cores

SQUARE = {"cpu": 2048, "cuda": 8192}  # rows and columns of the matrices whose product is the peak
COPIED = {"cpu": 256 << 20, "cuda": 2 << 30}  # bytes: more than any cache that one machine gives to one process
MIN_SECONDS = 0.5  # of one measurement of a peak
PACKAGES = ("hpsearch", "torch", "torchvision", "optuna", "numpy", "numba")


def about(*packages: str) -> dict[str, Any]:
    """Machine and versions, with those of further packages where they are there."""
    return {
        "processor": processor(),
        "cores": num_cores(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "load_at_start": load(),
        "versions": {"python": platform.python_version(), **versions(*PACKAGES, *packages)},
    }


def about_gpu(device: torch.device) -> dict[str, Any]:
    """What else decides the speed of a GPU: driver, CUDA, and whether products in float32 may be of fewer digits."""
    found: dict[str, Any] = {"device": str(device), "cuda": torch.version.cuda, "driver": driver()}
    found["float32_products"] = torch.get_float32_matmul_precision()
    found["cudnn"] = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    found["tf32_in_convolutions"] = torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name  # of this device; `about` knows the first one's
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["multiprocessors"] = properties.multi_processor_count
    return found


def driver() -> str | None:
    """NVIDIA's, as the kernel's module says it, or its own tool."""
    with suppress(OSError):
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    with suppress(OSError, subprocess.SubprocessError):
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.split()[0]
    return None


def processor() -> str:
    """The processor's own name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load() -> list[float]:
    """Processes that wanted a core, on average over 1, 5 and 15 minutes; empty where the system does not say."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass
class Peaks:
    """The most that a device was seen to do, measured again and again between the things that are compared.

    fp32 products of two large square matrices on all cores, in IEEE arithmetic on a GPU too; copies of a large array,
    where each byte counts twice, read and written.
    """

    device: str
    _gflops: list[float] = field(default_factory=list)
    _gb_s: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Once more, in about a second."""
        kind = self.device.partition(":")[0]
        torch.set_num_threads(num_cores())
        torch.set_float32_matmul_precision("highest")
        side = SQUARE[kind]
        left, right, out = (torch.randn(side, side, device=self.device) for _ in range(3))
        self._gflops.append(2e-9 * side**3 / self._seconds(lambda: torch.mm(left, right, out=out)))
        source = torch.ones(COPIED[kind] // 4, device=self.device)
        target = torch.empty_like(source)
        self._gb_s.append(2e-9 * COPIED[kind] / self._seconds(lambda: target.copy_(source)))

    def _seconds(self, call: Callable[[], Any]) -> float:
        """Of the median call among several, after one that warms up: what the device keeps up, not a lucky moment."""
        times: list[float] = []
        while not times or sum(times[1:]) < MIN_SECONDS:
            start = time.perf_counter()
            call()
            if self.device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    @property
    def gflops(self) -> float:
        """Median of the measurements, GFLOP/s."""
        return statistics.median(self._gflops)

    @property
    def gb_s(self) -> float:
        """Median of the measurements, GB/s."""
        return statistics.median(self._gb_s)

    def as_dict(self) -> dict[str, Any]:
        return {
            "gemm_gflops": round(self.gflops, 1),
            "copy_gb_s": round(self.gb_s, 1),
            "gemm_gflops_each": [round(value, 1) for value in self._gflops],
            "copy_gb_s_each": [round(value, 1) for value in self._gb_s],
        }
