"""Options that several commands share, each of them once: dataclasses that stand for many parameters of a command.

A command declares what is its own, and takes groups: `def coarse(searched: Searched, ..., name: NameOption = None)`.
`grouped_options.with_groups` shows the command line their fields as options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args

import typer
from typing_extensions import override

from hpsearch.cli.grouped_options import OptionGroup
from hpsearch.cli.options import read_settings, storage_option
from hpsearch.config import RunConfig, Settings
from hpsearch.errors import ConfigError
from hpsearch.logs import configure_logging


@dataclass(frozen=True)
class Output(OptionGroup):
    """What is said, and how."""

    PANEL: ClassVar[str] = "Output"

    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Logs, where the time of a start goes, and tracebacks of errors; twice for everything.",
        ),
    ] = 0

    def __post_init__(self) -> None:
        configure_logging(self.verbose if not self.quiet else -1)

    @property
    def silent(self) -> bool:
        """Whether people are told nothing on the way."""
        return self.quiet or self.as_json


@dataclass(frozen=True)
class Trained(OptionGroup):
    """What is trained: the study file, and what differs from it."""

    PANEL: ClassVar[str] = "What is trained"

    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="Study file (TOML); - reads standard input.")
    ] = None
    data: Annotated[
        str | None, typer.Option(help="digits, cifar10, folder:PATH, csv:PATH, npz:PATH, ... See: hpsearch data list.")
    ] = None
    model: Annotated[str | None, typer.Option(help="linear, mlp, lenet, convnet, vgg, resnet, MODULE:FUNCTION.")] = None
    trainer: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="A loss of yours in place of ours: train.step.")
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the study file: train.batch_size=50. Repeatable."),
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Draws initial weights, minibatches and noise.")] = None

    @override
    def needed(self) -> dict[str, str]:
        return storage_option(None, self.config)

    @override
    def needed_anew(self) -> dict[str, str]:
        return _given({"--config": self.config, "--data": self.data, "--model": self.model, "--trainer": self.trainer})

    def flags(self) -> dict[str, Any]:
        """By the keys that they set."""
        return {
            "train.seed": self.seed,
            "data.source": self.data,
            "model.name": self.model,
            "train.step": self.trainer,
        }


@dataclass(frozen=True)
class Searched(Trained):
    """What is searched: the same, with ranges."""

    PANEL: ClassVar[str] = "What is searched"

    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws hyperparameters, initial weights, minibatches and noise.")
    ] = None
    space: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=RANGE", help="A range: 'lr=log(1e-6,1e-3)'; NAME=none takes one out. Repeatable."),
    ] = None
    objective: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Search over a function of yours: (params, report) -> value."),
    ] = None
    optuna_objective: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Search over an Optuna objective as it is: (trial) -> value."),
    ] = None
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What decides: train.metric; of an objective, what its value is called."),
    ] = None
    direction: Annotated[
        str | None, typer.Option(metavar="WHICH", help="Of an objective's values: maximize or minimize.")
    ] = None

    @override
    def needed_anew(self) -> dict[str, str]:
        own = {"--objective": self.objective, "--optuna-objective": self.optuna_objective}
        return super().needed_anew() | _given(own | {"--direction": self.direction})

    @property
    def is_own(self) -> bool:
        """Whether an objective of the user's is named."""
        return self.objective is not None or self.optuna_objective is not None

    def flags(self, *stages: str) -> dict[str, Any]:
        """By the keys that they set; the seed also draws the hyperparameters of these stages."""
        seeds = {f"{stage}.seed": self.seed for stage in stages}
        if self.objective is not None and self.optuna_objective is not None:
            raise ConfigError(
                "--objective and --optuna-objective are two ways to call a function.\nAllowed: one of them."
            )
        own = {"objective.function": self.objective or self.optuna_objective, "objective.direction": self.direction}
        if self.is_own:
            own["objective.form"] = "optuna" if self.objective is None else "call"
        else:
            return {**seeds, **own, **super().flags(), "train.metric": self.metric}
        trained = {**super().flags(), "train.seed": None}
        return {**seeds, **own, **trained, "objective.metric": self.metric, "objective.seed": self.seed}


@dataclass(frozen=True)
class Storage(OptionGroup):
    """Where studies are."""

    PANEL: ClassVar[str] = "Where studies are"

    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database of the studies: sqlite:///FILE or postgresql://user@host/name."),
    ] = None

    @override
    def needed(self) -> dict[str, str]:
        return storage_option(self.storage) if self.storage is not None else {}


@dataclass(frozen=True)
class Training(Storage):
    """How and where it is trained, and what is kept."""

    PANEL: ClassVar[str] = "How and where it is trained"

    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes; 0 lets hpsearch choose.")] = None
    devices: Annotated[str | None, typer.Option(metavar="A,B", help="Devices of the workers: cuda:0,cuda:1.")] = None
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, loop, vmap, fused or graph (CUDA); ray: on a Ray cluster."),
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The Ray cluster; without it: RAY_ADDRESS, one on this host, or a new one."
        ),
    ] = None
    keep: Annotated[
        str | None, typer.Option(metavar="WHOSE", help="Whose weights are kept: best, all (that complete), or none.")
    ] = None
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Allow code that the database names: mynets, or mynets:small. Repeatable."),
    ] = None

    def flags(self) -> dict[str, Any]:
        """By the keys that they set. Ray is no engine of a pack, but an address alone asks for it, too.

        Raises:
            ConfigError: there is no such engine.
        """
        engines = get_args(RunConfig.model_fields["engine"].annotation)
        if self.engine not in (None, "ray", *engines):
            raise ConfigError(f"--engine {self.engine} is not known.\nAllowed: {', '.join(engines)}, ray.")
        devices = [name.strip() for name in (self.devices or "").split(",") if name.strip()]
        return {
            "run.device": self.device,
            "run.workers": self.workers,
            "run.devices": devices or None,
            "run.engine": None if self.engine == "ray" else self.engine,
            "run.fleet": "ray" if self.engine == "ray" or self.ray_address else None,
            "run.ray_address": self.ray_address,
            "run.keep": self.keep,
        }


def _given(options: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}


def settings_of(
    trained: Trained,
    training: Training,
    flags: dict[str, Any],
    *,
    stored: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a command that trains: `flags` are its own, by the keys that they set."""
    return read_settings(
        trained.config,
        trained.sets,
        trained.space if isinstance(trained, Searched) else None,
        storage=training.storage,
        stored=stored,
        flags={**training.flags(), **flags},
        trusted=training.trust,
        searches=isinstance(trained, Searched),
    )
