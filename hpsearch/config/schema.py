"""The study file as types: every key, its bounds, its default, one line on what it means, and who uses it.

`Vector` marks numbers that fit a tensor of shape [K]: trials that differ only in them train in one pack. All other
keys are structural: they change the program or its shapes.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from hpsearch.config.data_sources import (
    CSV,
    FOLDER,
    FUNCTION,
    NOT_YET,
    NPZ,
    PREFIXES,
    REGEX,
    SOURCES,
    is_user_code,
    not_yet,
    parse_source,
)
from hpsearch.config.fields import CameLater, Known, OneOrMore, Options, OptionsField, Positive, Section, UsedBy, Vector
from hpsearch.config.metric import METRICS
from hpsearch.config.net_names import FORMS, LIBRARY_NETS, is_library_net
from hpsearch.errors import ConfigError

MODELS = ("linear", "mlp", "lenet", "convnet", "resnet")
SAMPLERS = ("random", "qmc", "grid", "tpe", "gp", "cmaes")

SOURCE_FORMS = Known(SOURCES, (FOLDER, CSV, NPZ, FUNCTION))
AUGMENTATIONS = Known(("hflip",), ("crop:N (as crop:4)",))
MODEL_FORMS = Known(MODELS, (*LIBRARY_NETS, FUNCTION))
FREEZES = Known(("none", "all"), ("N (as 2), stages from the end that train",))
METRIC_FORMS = Known(METRICS, (FUNCTION,))
INIT_FORMS = Known(("lecun", "xavier", "he"), ("small:STD (as small:1e-4)",))


MAX_SEED = 2**63 - 1  # what torch's generators take


class SyntheticConfig(Section):
    """Learnable class templates plus noise: for tests and benchmarks."""

    shape: tuple[Positive, Positive, Positive] = (3, 32, 32)
    """Channels, height, width."""
    classes: int = Field(10, ge=2)
    """Number of classes."""
    train: int = Field(1000, ge=2)
    """Images in the training split, hold-out included."""
    test: int = Field(200, ge=1)
    """Images in the test split."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of the noise; the templates have 1."""


def _source(source: str) -> str:
    return str(parse_source(source))


def _augmentation(kind: str) -> str:
    name, _, amount = kind.partition(":")
    if kind == "hflip" or (name == "crop" and amount.isdecimal() and int(amount) > 0):
        return kind
    raise ValueError(f"allowed: {AUGMENTATIONS}")


class CsvConfig(Section):
    """Columns of a table of images; without them, those that are called as usual: a line says which."""

    path: str | None = None
    """Files; relative ones start at the table's folder."""
    label: str | None = None
    """Classes."""
    split: str | None = None
    """train, val or test; "none" for no such column."""
    group: str | None = None
    """Patients, scenes, as data.group; "none" for no such column."""


def _group(group: str | None) -> str | None:
    if group is None or not group.startswith(REGEX):
        return group
    try:
        if re.compile(group.removeprefix(REGEX)).groups == 1:
            return group
        why = "one group in parentheses"
    except (re.error, RecursionError, OverflowError) as error:
        why = f"an expression that can be read, so not with {error}"
    raise ValueError(f"allowed: {REGEX} with {why}, as regex:^(.+)_")


class DataConfig(Section):
    """Which images, how they are split and prepared."""

    source: Annotated[str, AfterValidator(_source), SOURCE_FORMS] = "digits"
    """digits, faces, cifar10, cifar100, mnist, fashion-mnist, svhn, synthetic, folder:PATH, csv:PATH, npz:PATH,
    MODULE:FUNCTION.
    """
    options: Annotated[OptionsField, CameLater, UsedBy("data.source", FUNCTION)] = Options()
    """Keyword arguments of the function, where source is MODULE:FUNCTION."""
    val: float = Field(0.2, gt=0)
    """Validation images held out of the training split: a share below 1, or a count. A folder's val/ goes before."""
    normalize: Literal["channel", "pixel", "feature", "none", "pretrained"] = "channel"
    """channel: mean and std per channel; pixel: subtract the mean image; feature: and divide by each pixel's std;
    pretrained, the default where a net has weights already: mean and std that its library trained with.
    """
    scale: float = Field(1.0, gt=0)
    """Value of a white pixel of images stored as bytes, before normalization: 1, or 255 to keep the bytes.

    White in files of 16 bits is the greatest value of the training images.
    """
    augment: Annotated[
        tuple[Annotated[str, AfterValidator(_augmentation), AUGMENTATIONS], ...],
        OneOrMore,
        Field(examples=[["hflip", "crop:4"]]),
    ] = ()
    """hflip, and crop:N (shift by up to N pixels, zeros come in)."""
    size: Annotated[int | None, UsedBy("data.source", FOLDER, CSV), Field(ge=1)] = None
    """Height and width of the images of a folder or csv; without it their median short side, from 8 to 64, or that with
    which a pretrained net was trained.
    """
    resize: Annotated[Literal["squeeze", "crop"], CameLater, UsedBy("data.source", FOLDER, CSV)] = "squeeze"
    """Of a folder or csv: squeeze, the whole image; or crop, the square in its middle, in training and evaluation."""
    csv: Annotated[CsvConfig, CameLater, UsedBy("data.source", CSV, FOLDER)] = Field(default_factory=CsvConfig)
    """Columns of a csv file, or of the metadata.csv of a folder."""
    group: Annotated[str | None, CameLater, UsedBy("data.source", FOLDER, CSV, NPZ), AfterValidator(_group)] = None
    """What stays in one split, as a patient: a column of a csv, an array of an npz; "regex:^(.+)_" in a folder."""
    sampling: Annotated[Literal["shuffled", "balanced"], CameLater] = "shuffled"
    """shuffled: each training image once an epoch; balanced: as many of each class, rare ones several times."""
    limit: int | None = Field(None, ge=2)
    """Use only this many images of the training split, stratified; a folder's val/ stays whole."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Draws the hold-out; apart from train.seed, so that trials of different seeds see the same split."""
    synthetic: Annotated[SyntheticConfig, UsedBy("data.source", "synthetic")] = Field(default_factory=SyntheticConfig)
    """How many images of which size, where source is synthetic."""

    @field_validator("val")
    @classmethod
    def _share_or_count(cls, val: float) -> float:
        if val >= 1 and val != int(val):
            raise ValueError("allowed: a share below 1, or a whole number of images")
        return val


def _model(name: str) -> str:
    if name in MODELS or is_user_code(name) or is_library_net(name):
        return name
    prefix, sign, _ = name.partition(":")
    if sign and prefix in FORMS:
        raise ValueError(f"allowed: {FORMS[prefix]}, as torchvision:resnet18")
    if sign and prefix.lower() in NOT_YET:
        raise ValueError(not_yet(prefix.lower()))
    hint = f"; {prefix}: is for data.source" if sign and prefix.lower() in PREFIXES else ""
    raise ValueError(f"allowed: {MODEL_FORMS}{hint}")


def _init(init: str) -> str:
    kind, _, std = init.partition(":")
    if init in INIT_FORMS.values:
        return init
    try:
        if kind == "small" and 0 < float(std) < math.inf:
            return init
    except ValueError:
        pass
    raise ValueError(f"allowed: {INIT_FORMS}")


def _freeze(kept: Any) -> str | int:
    if isinstance(kept, str) and kept.isdecimal():
        kept = int(kept)
    if kept in ("none", "all") or (isinstance(kept, int) and not isinstance(kept, bool) and kept >= 1):
        found: str | int = kept
        return found
    raise ValueError(f"allowed: {FREEZES}")


class ModelConfig(Section):
    """Which net."""

    name: Annotated[str, AfterValidator(_model), MODEL_FORMS] = "mlp"
    """linear, mlp, lenet, convnet or resnet; torchvision:NAME and timm:NAME, with a new head for the classes; or
    MODULE:FUNCTION, called with (shape, num_classes, **options).
    """
    options: Annotated[OptionsField, CameLater, UsedBy("model.name", FUNCTION)] = Options()
    """Keyword arguments of the function, where name is MODULE:FUNCTION; each can be searched: "model.options.width"."""
    pretrained: Annotated[bool, CameLater, UsedBy("model.name", *LIBRARY_NETS)] = False
    """torchvision:NAME and timm:NAME: start from the library's own weights, which it downloads."""
    weights: Annotated[str | None, CameLater, UsedBy("model.name", *LIBRARY_NETS), Field(min_length=1)] = None
    """torchvision:NAME and timm:NAME: start from the weights in this file, safetensors or a state dict of torch.save.
    """
    freeze: Annotated[str | int, BeforeValidator(_freeze), CameLater, UsedBy("model.name", *LIBRARY_NETS), FREEZES] = (
        "none"
    )
    """torchvision:NAME and timm:NAME: all: only the head trains; N: the head and the last N stages. The rest stays as
    it is, in evaluation mode.
    """
    hidden: Annotated[tuple[Positive, ...], OneOrMore, UsedBy("model.name", "mlp", "convnet", *LIBRARY_NETS)] = (50,)
    """mlp: units of each hidden layer. convnet: units of the fully connected layers before the last, and so of the head
    of torchvision:NAME and timm:NAME, where it is [] by default.
    """
    activation: Annotated[
        Literal["relu", "tanh", "sigmoid", "gelu"], UsedBy("model.name", "mlp", "lenet", "convnet", *LIBRARY_NETS)
    ] = "relu"
    """Between the layers of mlp, lenet and convnet, and of the head of torchvision:NAME and timm:NAME."""
    channels: Annotated[tuple[Positive, ...], OneOrMore, UsedBy("model.name", "convnet")] = (32, 64)
    """convnet: channels of each of the M blocks."""
    convs: Annotated[int, UsedBy("model.name", "convnet"), Field(ge=1)] = 1
    """convnet: CONV-RELU pairs in a block (N)."""
    pool: Annotated[bool, UsedBy("model.name", "convnet")] = True
    """convnet: a 2x2 max pool at the end of a block."""
    batch_norm: Annotated[bool, UsedBy("model.name", "mlp", "convnet")] = False
    """mlp and convnet: batch normalization before each activation."""
    depth: Annotated[Literal[18, 34, 50], UsedBy("model.name", "resnet")] = 18
    """resnet: layers, as torchvision names them."""
    dropout: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.0
    """Share of units dropped before each fully connected layer but the first (the only one in linear and resnet)."""
    init: Annotated[str, AfterValidator(_init), INIT_FORMS, UsedBy("model.name", *MODELS, *LIBRARY_NETS)] = "he"
    """Initial weights: small:STD, lecun, xavier or he. Biases start at 0. A net of MODULE:FUNCTION has its own. Of
    torchvision:NAME and timm:NAME it is the head's alone, by default small:0.01.
    """
    init_scale: Annotated[float, Vector, Field(gt=0)] = 1.0
    """Multiplies the initial weights; of torchvision:NAME and timm:NAME the head's alone."""

    @model_validator(mode="before")
    @classmethod
    def _library_net(cls, given: Any) -> Any:
        """A net of a library has one layer more, which knows nothing at first: the loss begins at ln C."""
        if not (isinstance(given, dict) and isinstance(name := given.get("name"), str) and is_library_net(name)):
            return given
        return {"hidden": (), "init": "small:0.01", **given}

    @model_validator(mode="after")
    def _one_origin(self) -> ModelConfig:
        if self.pretrained and self.weights is not None:
            raise ConfigError(
                f"model.pretrained = true and model.weights = {self.weights!r} name two beginnings.\n"
                "Allowed: one of them; the library's weights, or those of the file."
            )
        return self


def _metric(name: str) -> str:
    if name in METRICS or is_user_code(name):
        return name
    raise ValueError(f"allowed: {METRIC_FORMS}")


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
    body_lr: Annotated[float, Vector, CameLater, Field(gt=0, le=1)] = 1.0
    """Factor of lr for all but the head, the last layer of a net."""
    layer_decay: Annotated[float, Vector, CameLater, Field(gt=0, le=1)] = 1.0
    """Factor of lr from each stage of the net to the one before it, from the head on."""
    momentum: Annotated[
        float, Vector, UsedBy("train.optimizer", "momentum", "nesterov", "adam", "adamw"), Field(ge=0, lt=1)
    ] = 0.9
    """momentum and nesterov: share of the last update kept. adam and adamw: beta1."""
    beta2: Annotated[float, Vector, UsedBy("train.optimizer", "adam", "adamw"), Field(ge=0, lt=1)] = 0.999
    """adam and adamw: decay of the squared gradients' average."""
    reg: Annotated[float, Vector, Field(ge=0)] = 0.0
    """L2 regularization: reg/2 * sum W^2 is added to the cost; weights only, not biases."""
    l1: Annotated[float, Vector, Field(ge=0)] = 0.0
    """L1 regularization: l1 * sum |W| is added to the cost; weights only, not biases."""
    weight_decay: Annotated[float, Vector, UsedBy("train.optimizer", "adamw"), Field(ge=0)] = 0.0
    """adamw: decoupled decay, lr * weight_decay * W off each step; weights only, not biases."""
    label_smoothing: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.0
    """Mass moved off the true class, spread over all classes."""
    focal: Annotated[float, Vector, CameLater, Field(ge=0)] = 0.0
    """Gamma of the focal loss: images count (1 - p)^gamma, so that those that are sure count less; 0: all alike."""
    class_weights: Annotated[Literal["none", "balanced"], CameLater] = "none"
    """balanced: in the training loss, images of a class count as many times as it has fewer than the mean class."""
    lr_schedule: Literal["exponential", "cosine", "step"] = "exponential"
    """exponential: times lr_decay each epoch; step: every lr_step epochs; cosine: half a wave down over the epochs."""
    lr_decay: Annotated[float, Vector, UsedBy("train.lr_schedule", "exponential", "step"), Field(gt=0, le=1)] = 0.95
    """Factor of the exponential and step schedules."""
    lr_step: Annotated[int, UsedBy("train.lr_schedule", "step"), Field(ge=1)] = 10
    """step: epochs between two decays."""
    patience: Annotated[int | None, CameLater, Field(ge=1)] = None
    """Epochs without a better value of the metric, as the mean of 3 epochs, after which a trial ends; or "none".
    Schedules of the learning rate stay those of all epochs.
    """
    metric: Annotated[str, CameLater, AfterValidator(_metric), METRIC_FORMS] = "accuracy"
    """What decides, on validation images: accuracy, balanced_accuracy, macro_f1, auroc, top5, loss, MODULE:FUNCTION."""
    explosion: float = Field(3.0, gt=1)
    """A trial is stopped when its cost exceeds this many times its first cost (CS231n's rule: 3)."""
    precision: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    """Of weights, data, arithmetic; bfloat16: of products only; auto: that where it makes a large search faster."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
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
    pruner_options: dict[str, Any] = Field(default_factory=dict)
    """Its arguments, as Optuna names them. A wrapped_pruner is a name, or { name = "median", n_startup_trials = 5 }."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Draws the hyperparameters."""
    set: dict[str, Any] = Field(default_factory=dict)
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
