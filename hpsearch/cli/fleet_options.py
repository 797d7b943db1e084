"""Options that say how a stage is trained, by how many workers, where they run, and what they keep."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from hpsearch.config import RunConfig
from hpsearch.errors import ConfigError

WorkersOption = Annotated[int, typer.Option(min=0, help="Worker processes; 0 lets hpsearch choose.")]
DevicesOption = Annotated[str | None, typer.Option(metavar="A,B", help="Devices of the workers: cuda:0,cuda:1.")]
EngineOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="auto, loop, vmap or fused; ray puts the workers on a Ray cluster.")
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The Ray cluster; without it: RAY_ADDRESS, one on this host, or a new one."),
]
KeepOption = Annotated[
    str | None, typer.Option(metavar="WHOSE", help="Whose weights are kept: best, all (that complete), or none.")
]


def fleet_flags(engine: str | None, ray_address: str | None, keep: str | None = None) -> dict[str, Any]:
    """The flags by the keys that they set. Ray is no engine of a pack, but an address alone asks for it, too.

    Raises:
        ConfigError: there is no such engine.
    """
    engines = get_args(RunConfig.model_fields["engine"].annotation)
    if engine not in (None, "ray", *engines):
        raise ConfigError(f"--engine {engine} is not known.\nAllowed: {', '.join(engines)}, ray.")
    return {
        "run.engine": None if engine == "ray" else engine,
        "run.fleet": "ray" if engine == "ray" or ray_address else None,
        "run.ray_address": ray_address,
        "run.keep": keep,
    }


def split_devices(devices: str | None) -> list[str]:
    """The names in `--devices A,B`."""
    return [name.strip() for name in (devices or "").split(",") if name.strip()]
