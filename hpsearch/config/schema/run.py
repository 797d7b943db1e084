"""[run]: where and how the work runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpsearch.config.fields import Section


class RunConfig(Section):
    """Where and how the work runs. Changes no result worth the name, so it is not part of the fingerprint."""

    storage: str = "sqlite:///studies/hpsearch.db"
    """Database of the studies: sqlite:///FILE or postgresql://user@host/name."""
    data_dir: str = "data"
    """Folder for downloads and caches."""
    artifact_dir: str = "studies/artifacts"
    """Folder for the weights that are kept."""
    keep: Literal["best", "all", "none"] = "best"
    """Whose weights are kept: those of the best trial of a stage, of all that complete, or nobody's."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    engine: Literal["auto", "loop", "vmap", "fused", "graph"] = "auto"
    """How a pack is trained: loop (one after the other, always right), vmap (as one program), fused (not resnet)."""
    fleet: Literal["processes", "ray"] = "processes"
    """Who runs the workers: processes on this machine, or a Ray cluster."""
    ray_address: str = ""
    """The Ray cluster, HOST:PORT; empty: that of RAY_ADDRESS, one that runs on this host, or a new local one."""
    width: int = Field(0, ge=0)
    """Most trials in a pack; 0 lets hpsearch choose."""
    tune: bool = True
    """Whether large searches time a few steps first, and train with the engine and width that were fastest."""
    workers: int = Field(0, ge=0)
    """Worker processes; 0: one per GPU, or per core where that ends the search clearly sooner."""
    devices: tuple[str, ...] = ()
    """Devices of the workers, as cuda:0, cuda:1; of each, where there are more workers than devices, several."""
    threads: int = Field(0, ge=0)
    """CPU threads of a worker; 0 shares out the cores."""
    memory: int = Field(0, ge=0)
    """Bytes of images that memory holds: more stay on disk, for the same numbers. 0: half of what is free."""
    lease_seconds: float = Field(15.0, gt=0)
    """Longest silence of a worker before another one takes its trials over."""
    checkpoint_seconds: float = Field(10.0, ge=0)
    """Time between two checkpoints of a trial; at epoch ends only."""
