"""A Ray cluster: joining it, and how many workers it has room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hpsearch.config import RunConfig
from hpsearch.errors import ConfigError, HpsearchError, MissingExtraError

CONNECT_SECONDS = 10.0
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Demand:
    """What one worker takes of a node."""

    num_cpus: int
    num_gpus: int

    def __str__(self) -> str:
        cpus = f"{self.num_cpus} CPU{'s' if self.num_cpus > 1 else ''}"
        return f"1 GPU and {cpus}" if self.num_gpus else cpus


def check_request(run: RunConfig) -> None:
    """Refuse what is known to be wrong before anything is read or written.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: devices were asked for by number, which Ray assigns.
    """
    if run.devices:
        raise ConfigError(
            f"--devices {','.join(run.devices)} is not for --engine ray, which assigns the GPUs.\nAllowed: --workers N."
        )
    if run.device not in DEVICES:
        raise ConfigError(
            f"run.device = {run.device!r} is not for --engine ray, which assigns the GPUs.\n"
            f"Allowed: {', '.join(DEVICES)}."
        )
    import_ray()


def import_ray() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("Ray", "ray", "ray") from None
    return ray


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within it, this process is a driver of the cluster: at `address`, of RAY_ADDRESS, on this host, or a new one.

    Raises:
        ConfigError: there is no cluster at that address, or it cannot be used from here.
    """
    ray = import_ray()
    if ray.is_initialized():  # the cluster of whoever called us
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    _refuse_if_silent(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a search tells nobody that it runs
    # Ray's handler exits at once; ours drains.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        # No dashboard: it is a server without a password, and the one of a cluster that runs is there anyway.
        ray.init(address or None, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unusable(address, str(error).splitlines()[0]) from error
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_if_silent(address: str) -> None:
    """Ray itself would wait for minutes."""
    host, sign, port = address.removeprefix("ray://").rpartition(":")
    if not sign or not port.isdigit():  # auto, local
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unusable(address, getattr(error, "strerror", None) or str(error)) from error


def _unusable(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the Ray cluster at {address or 'this host'} cannot be used: {reason.rstrip('.')}.\n"
        "Allowed: --ray-address HOST:PORT, as `ray start --head` shows it; without one, a local cluster is started."
    )


def nodes() -> list[Mapping[str, float]]:
    """The resources of each node that is alive, free or not."""
    return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]


def choose_demand(run: RunConfig, nodes: Sequence[Mapping[str, float]]) -> Demand:
    """A GPU for each worker where the cluster has some and run.device allows it; run.threads CPUs, or one.

    Raises:
        ConfigError: run.device = "cuda", and no node has a GPU.
    """
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    if run.device == "cuda" and not has_gpus:
        raise ConfigError("run.device = 'cuda', but no node of the Ray cluster has a GPU.\nAllowed here: auto, cpu.")
    return Demand(run.threads or 1, int(has_gpus and run.device != "cpu"))


def room(demand: Demand, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many workers the nodes hold when nothing else runs on them."""
    fits = [node.get("CPU", 0) // demand.num_cpus for node in nodes]
    if demand.num_gpus:
        fits = [min(fit, node.get("GPU", 0) // demand.num_gpus) for fit, node in zip(fits, nodes, strict=True)]
    return int(sum(fits))


def choose_workers(workers: int, demand: Demand, nodes: Sequence[Mapping[str, float]], num_trials: int) -> int:
    """As many workers as asked for; else as many as there is room for, and trials.

    Raises:
        ConfigError: the cluster will never hold so many.
    """
    most = room(demand, nodes)
    if not most:
        largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
        allowed = f"a node with the most CPUs has {largest}" if largest else "no node has a CPU for hpsearch"
        raise ConfigError(
            f"no node of the Ray cluster holds a worker, which takes {demand}.\nRoom there is: {allowed}."
        )
    if workers > most:
        raise ConfigError(
            f"--workers {workers}: the Ray cluster has no room for so many, at {demand} each.\n"
            f"Allowed: up to {most}. Its nodes: {', '.join(map(_describe, nodes))}."
        )
    return workers or max(1, min(most, num_trials))


def _describe(node: Mapping[str, float]) -> str:
    return f"{node.get('CPU', 0):.0f} CPUs {node.get('GPU', 0):.0f} GPUs"


class NoRoomError(HpsearchError):
    """The nodes that could hold a worker are gone."""
