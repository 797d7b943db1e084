"""Which GPU the user's code sees: its worker's alone."""

from __future__ import annotations

from collections.abc import Mapping


def visible(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What makes one GPU the only one, for the environment of a process.

    The number in `cuda:1` is a place among the GPUs that `environment` leaves visible, not among all of the machine:
    of CUDA_VISIBLE_DEVICES = "2,3" it is "3". Names as "GPU-8f2e" or "MIG-..." stay as they are.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index:
        return {}
    before = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return {"CUDA_VISIBLE_DEVICES": before[int(index)] if int(index) < len(before) else index}
