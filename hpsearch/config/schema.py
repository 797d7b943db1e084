"""The study file as types: every key, its bounds, its default and one line on what it means.

`Vector` marks numbers that fit a tensor of shape [K]: trials that differ only in them train in one pack. All other
keys are structural: they change the program or its shapes.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from hpsearch.config.ranges import thaw
from hpsearch.config.usercode import is_user_code

SOURCES = ("digits", "faces", "cifar10", "cifar100", "mnist", "fashion-mnist", "svhn", "synthetic")
SOURCE_PREFIXES = ("folder:", "npz:")
MODELS = ("linear", "mlp", "lenet", "convnet", "resnet")
SAMPLERS = ("random", "qmc", "grid", "tpe", "gp", "cmaes")

Vector = "vector"
"""Metadata of a field that packs hold as one tensor of shape [K]."""


class Section(BaseModel):
    """A frozen table of a study file: unknown keys are errors, numbers are finite.

    The default of a key that is a table is a factory, so that nothing is validated, and no validator built, at import.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, defer_build=True)


class Options(dict[str, Any]):
    """Keyword arguments of the user's function: a table that is not changed, so that it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def _plain_options(given: dict[str, Any]) -> Options:
    for key, value in given.items():
        if not key.isidentifier():
            raise ValueError(f"{key!r} cannot be the name of an argument")
        flat = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(v, bool | int | str) or (isinstance(v, float) and math.isfinite(v)) for v in flat):
            raise ValueError(f"{key} = {value!r}: allowed are finite numbers, text, true, false, and lists of these")
    return Options({key: thaw(value) for key, value in given.items()})


OptionsField = Annotated[dict[str, Any], AfterValidator(_plain_options)]


class SyntheticConfig(Section):
    """Learnable class templates plus noise: for tests and benchmarks."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height, width."""
    classes: int = Field(10, ge=2)
    """Number of classes."""
    train: int = Field(1000, ge=2)
    """Images in the training split, hold-out included."""
    test: int = Field(200, ge=1)
    """Images in the test split."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of the noise; the templates have 1."""

    @field_validator("shape")
    @classmethod
    def _positive(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1:
            raise ValueError("channels, height and width must be at least 1")
        return shape


class DataConfig(Section):
    """Which images, how they are split and prepared."""

    source: str = "digits"
    """digits, faces, cifar10, cifar100, mnist, fashion-mnist, svhn, synthetic, folder:PATH, npz:PATH, MODULE:FUNCTION.
    """
    options: OptionsField = Options()
    """Keyword arguments of the function, where source is MODULE:FUNCTION."""
    val: float = Field(0.2, gt=0)
    """Validation images held out of the training split: a share below 1, or a count."""
    normalize: Literal["channel", "pixel", "feature", "none"] = "channel"
    """channel: mean and std per channel; pixel: subtract the mean image; feature: and divide by each pixel's std."""
    scale: float = Field(1.0, gt=0)
    """Value of a white pixel of images stored as bytes, before normalization: 1, or 255 to keep the bytes."""
    augment: tuple[str, ...] = ()
    """hflip, and crop:N (shift by up to N pixels, zeros come in)."""
    size: int | None = Field(None, ge=1)
    """Height and width that the images of a folder are resized to; 32 where not given."""
    limit: int | None = Field(None, ge=2)
    """Use only this many images of the training split, stratified."""
    seed: int = Field(0, ge=0)
    """Draws the hold-out; apart from train.seed, so that trials of different seeds see the same split."""
    synthetic: SyntheticConfig = Field(default_factory=SyntheticConfig)

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source in SOURCES or any(source.startswith(p) and len(source) > len(p) for p in SOURCE_PREFIXES):
            return source
        if is_user_code(source) and not source.startswith(SOURCE_PREFIXES):
            return source
        raise ValueError(f"allowed: {', '.join(SOURCES)}, folder:PATH, npz:PATH, MODULE:FUNCTION")

    @field_validator("val")
    @classmethod
    def _share_or_count(cls, val: float) -> float:
        if val >= 1 and val != int(val):
            raise ValueError("a share below 1, or a whole number of images")
        return val

    @field_validator("augment")
    @classmethod
    def _known_augmentations(cls, augment: tuple[str, ...]) -> tuple[str, ...]:
        for kind in augment:
            name, _, amount = kind.partition(":")
            if not (kind == "hflip" or (name == "crop" and amount.isdecimal() and int(amount) > 0)):
                raise ValueError(f"{kind!r} is not known; allowed: hflip, crop:N")
        return augment


class ModelConfig(Section):
    """Which net. Keys that the named net does not use are ignored by it."""

    name: str = "mlp"
    """linear, mlp, lenet, convnet or resnet; or MODULE:FUNCTION, called with (shape, num_classes, **options)."""
    options: OptionsField = Options()
    """Keyword arguments of the function, where name is MODULE:FUNCTION; each can be searched: "model.options.width"."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (50,)
    """mlp: units of each hidden layer. convnet: units of the fully connected layers before the last."""
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    """Between the layers of mlp, lenet and convnet."""
    channels: tuple[Annotated[int, Field(ge=1)], ...] = (32, 64)
    """convnet: channels of each of the M blocks."""
    convs: int = Field(1, ge=1)
    """convnet: CONV-RELU pairs in a block (N)."""
    pool: bool = True
    """convnet: a 2x2 max pool at the end of a block."""
    batch_norm: bool = False
    """mlp and convnet: batch normalization before each activation."""
    depth: Literal[18, 34, 50] = 18
    """resnet: layers, as torchvision names them."""
    dropout: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.0
    """Share of units dropped before each fully connected layer but the first (the only one in linear and resnet)."""
    init: str = "he"
    """Initial weights: small:STD, lecun, xavier or he. Biases start at 0. A net of MODULE:FUNCTION has its own."""
    init_scale: Annotated[float, Vector, Field(gt=0)] = 1.0
    """Multiplies the initial weights."""

    @field_validator("name")
    @classmethod
    def _known_model(cls, name: str) -> str:
        if name in MODELS or is_user_code(name):
            return name
        raise ValueError(f"allowed: {', '.join(MODELS)}, MODULE:FUNCTION")

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        kind, _, std = init.partition(":")
        if init in ("lecun", "xavier", "he"):
            return init
        try:
            if kind == "small" and 0 < float(std) < float("inf"):
                return init
        except ValueError:
            pass
        raise ValueError("allowed: small:STD (as small:1e-4), lecun, xavier, he")


class TrainConfig(Section):
    """How one trial trains."""

    epochs: int = Field(10, ge=1)
    """Passes over the training images; a stage's own number replaces it."""
    batch_size: int = Field(100, ge=1)
    """Images in a minibatch; the last one of an epoch may be smaller."""
    optimizer: Literal["sgd", "momentum", "nesterov", "adam", "adamw"] = "momentum"
    """The update rule."""
    lr: Annotated[float, Vector, Field(gt=0)] = 1e-2
    """Learning rate of the first epoch."""
    momentum: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.9
    """momentum and nesterov: share of the last update kept. adam and adamw: beta1."""
    beta2: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.999
    """adam and adamw: decay of the squared gradients' average."""
    reg: Annotated[float, Vector, Field(ge=0)] = 0.0
    """L2 regularization: reg/2 * sum W^2 is added to the cost; weights only, not biases."""
    l1: Annotated[float, Vector, Field(ge=0)] = 0.0
    """L1 regularization: l1 * sum |W| is added to the cost; weights only, not biases."""
    weight_decay: Annotated[float, Vector, Field(ge=0)] = 0.0
    """adamw: decoupled decay, lr * weight_decay * W off each step; weights only, not biases."""
    label_smoothing: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.0
    """Mass moved off the true class, spread over all classes."""
    lr_schedule: Literal["exponential", "cosine", "step"] = "exponential"
    """exponential: times lr_decay each epoch; step: every lr_step epochs; cosine: half a wave down over the epochs."""
    lr_decay: Annotated[float, Vector, Field(gt=0, le=1)] = 0.95
    """Factor of the exponential and step schedules."""
    lr_step: int = Field(10, ge=1)
    """step: epochs between two decays."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a better validation accuracy, as the mean of 3 epochs, after which a trial ends; or "none".
    Schedules of the learning rate stay those of all epochs.
    """
    explosion: float = Field(3.0, gt=1)
    """A trial is stopped when its cost exceeds this many times its first cost (CS231n's rule: 3)."""
    precision: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    """Of weights, data, arithmetic; bfloat16: of products only; auto: that where it makes a large search faster."""
    seed: int = Field(0, ge=0)
    """Initial weights, order of the minibatches, augmentation and dropout noise."""

    @field_validator("patience", mode="before")
    @classmethod
    def _none(cls, patience: Any) -> Any:
        """TOML has no null, but a stage may want no patience where the others have some."""
        return None if patience == "none" else patience


class StageConfig(Section):
    """One stage: how many trials, how long, who proposes them."""

    trials: int = Field(100, ge=1)
    """The budget, exact."""
    epochs: int = Field(5, ge=1)
    """Epochs of each trial."""
    sampler: Literal["random", "qmc", "grid", "tpe", "gp", "cmaes"] = "random"
    """Who proposes the hyperparameters. random, qmc and grid are drawn from the seed before the first trial."""
    pruner: str = "none"
    """none, or an Optuna pruner at epoch ends: median, successive-halving, hyperband, percentile, patient, ..."""
    pruner_options: dict[str, Any] = {}
    """Its arguments, as Optuna names them. A wrapped_pruner is a name, or { name = "median", n_startup_trials = 5 }."""
    seed: int = Field(0, ge=0)
    """Draws the hyperparameters."""
    set: dict[str, Any] = {}
    """Keys of [data], [model] and [train] that differ in this stage: `{ "train.lr_decay" = 0.9 }`."""

    @field_validator("set", mode="before")
    @classmethod
    def _flatten(cls, given: Any) -> Any:
        """TOML reads `train.lr_decay = 0.9` under [fine.set] as a table in a table."""
        if not isinstance(given, dict):
            return given
        flat: dict[str, Any] = {}
        for key, value in given.items():
            nested = isinstance(value, dict) and "." not in key
            flat.update({f"{key}.{inner}": item for inner, item in value.items()} if nested else {key: value})
        return flat


class FineConfig(StageConfig):
    """The fine stage: fewer trials, trained longer, proposed by a sampler that learns from them."""

    trials: int = Field(50, ge=1)
    """The budget, exact."""
    epochs: int = Field(20, ge=1)
    """Epochs of each trial."""
    sampler: Literal["random", "qmc", "grid", "tpe", "gp", "cmaes"] = "tpe"
    """Who proposes the hyperparameters."""


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
    engine: Literal["auto", "loop", "vmap", "fused"] = "auto"
    """How a pack is trained: loop (one after the other, always right), vmap (as one program), fused (not resnet)."""
    fleet: Literal["processes", "ray"] = "processes"
    """Who runs the workers: processes on this machine, or a Ray cluster."""
    ray_address: str = ""
    """The Ray cluster, HOST:PORT; empty: that of RAY_ADDRESS, one that runs on this host, or a new local one."""
    width: int = Field(0, ge=0)
    """Most trials in a pack; 0 lets hpsearch choose."""
    tune: bool = True
    """Whether large searches time a few steps first, and train with the engine and width that were fastest."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 takes all cores."""
    lease_seconds: float = Field(15.0, gt=0)
    """Longest silence of a worker before another one takes its trials over."""
    checkpoint_seconds: float = Field(10.0, ge=0)
    """Time between two checkpoints of a trial; at epoch ends only."""
