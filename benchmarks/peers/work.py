"""The search that all ways are given: images, net, ranges, epochs; and how much arithmetic it is.

Shape suffixes: N = images, C = channels, H = height, W = width.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (3, 32, 32)  # CIFAR-10's
NUM_CLASSES = 10
HIDDEN = 50
# Ranges within those of studies/cifar10-mlp.toml and cifar10-lenet.toml in which no trial explodes: hpsearch stops a
# trial whose cost explodes, the others have no such rule, and all of them shall train every trial to its end.
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"lr": (1e-6, 1e-4), "reg": (1e-5, 1e-1), "normalize": "pixel", "scale": 255.0, "init": "small:1e-4"},
    "lenet": {"lr": (1e-4, 1e-2), "reg": (1e-6, 1e-2), "normalize": "channel", "scale": 1.0, "init": "he"},
    "resnet": {"lr": (1e-4, 1e-2), "reg": (1e-6, 1e-3), "normalize": "channel", "scale": 1.0, "init": "he"},
    "vit": {"lr": (1e-4, 1e-2), "reg": (1e-6, 1e-3), "normalize": "channel", "scale": 1.0, "init": "he"},
}
USER_NETS = {"vit": "benchmarks.nets:vit"}  # by the name that hpsearch's user writes; they have their own weights


@dataclass(frozen=True)
class Work:
    """One search. Validation images are the last of the file, as many as `num_val`."""

    images: str  # an npz: x_train and y_train, N,H,W,C of bytes; or N,C,H,W of floats that are normalized already
    num_val: int
    model: str
    lr: tuple[float, float]
    reg: tuple[float, float]
    normalize: str
    scale: float
    init: str
    epochs: int
    num_trials: int
    num_processes: int
    lr_decay: float = 0.9
    hidden: int = HIDDEN
    batch_size: int = 100
    device: str = "cpu"
    sampler: str = "random"
    seed: int = 0
    seconds: float | None = None  # ends the search, in place of num_trials
    threads: int = 1  # of each process, where the way says how many it wants
    options: dict[str, int] = field(default_factory=dict)  # of a net of the user's
    precision: str = "float32"  # of the expert's products; hpsearch is told by its own keys
    compile_mode: str | None = None  # of torch.compile, where the expert's net is compiled

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Work:
        given = json.loads(path.read_text())
        return cls(**{**given, "lr": tuple(given["lr"]), "reg": tuple(given["reg"])})

    def share(self, rank: int) -> int:
        """Trials of one process when all of them share out the budget."""
        return self.num_trials // self.num_processes + (rank < self.num_trials % self.num_processes)

    def study_file(self) -> str:
        """The same search as hpsearch's user writes it."""
        return f"""
[data]
source = "npz:{self.images}"
val = {self.num_val}
normalize = "{self.normalize}"
scale = {self.scale}
[model]
name = "{USER_NETS.get(self.model, self.model)}"
hidden = [{self.hidden}]
init = "{self.init}"
{self._options()}
[train]
batch_size = {self.batch_size}
optimizer = "momentum"
momentum = 0.9
lr_decay = {self.lr_decay}
[space]
lr = {{ log = [{self.lr[0]}, {self.lr[1]}] }}
reg = {{ log = [{self.reg[0]}, {self.reg[1]}] }}
[coarse]
trials = {self.num_trials}
epochs = {self.epochs}
"""

    def _options(self) -> str:
        return "".join(f"options.{name} = {value}\n" for name, value in self.options.items())


def multiplications(model: str, shape: tuple[int, int, int] = SHAPE, hidden: int = HIDDEN) -> list[int]:
    """Multiply-adds of each layer for one image: a fully connected one n*m, a 5x5 convolution that of each output.

    Of a large net those of its first layer and of all others together, as PyTorch runs them.
    """
    num_channels, height, width = shape
    if model == "mlp":
        return [num_channels * height * width * hidden, hidden * NUM_CLASSES]
    if model in ("resnet", "vit"):
        from hpsearch.models import num_multiplications  # with torch, which writing images does not need

        first = height * width * 64 * 3 * 3 * num_channels if model == "resnet" else height * width * num_channels * 192
        return [first, num_multiplications(_net(model), shape) - first]
    assert shape == SHAPE, "LeNet is counted for 32x32"
    convolutions = [28 * 28 * 6 * 5 * 5 * num_channels, 10 * 10 * 16 * 5 * 5 * 6]
    return [*convolutions, 400 * 120, 120 * 84, 84 * NUM_CLASSES]


def flop_per_sample(model: str) -> int:
    """Of a training step: forward, gradient of the weights, gradient of the inputs, which the images do not need."""
    first, *rest = multiplications(model)
    return 4 * first + 6 * sum(rest)


def num_parameters(model: str) -> int:
    if model == "mlp":
        inputs = SHAPE[0] * SHAPE[1] * SHAPE[2]
        return (inputs + 1) * HIDDEN + (HIDDEN + 1) * NUM_CLASSES
    if model in ("resnet", "vit"):
        return sum(parameter.numel() for parameter in _net(model).parameters())
    return (25 * 3 + 1) * 6 + (25 * 6 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * NUM_CLASSES


def _net(model: str) -> Any:
    from hpsearch.config import ModelConfig
    from hpsearch.config.usercode import trust
    from hpsearch.models import build

    trust(*USER_NETS.values())
    return build(ModelConfig(name=USER_NETS.get(model, model)), SHAPE, NUM_CLASSES)


def write_random_images(path: Path, num_images: int) -> None:
    """CIFAR-10's shape, random bytes, as many of each class: enough where only time matters."""
    rng = np.random.default_rng(0)
    x_NHWC = rng.integers(0, 256, (num_images, *SHAPE[1:], SHAPE[0]), dtype=np.uint8)
    y_N = rng.permutation(np.arange(num_images) % NUM_CLASSES)
    np.savez(path, x_train=x_NHWC, y_train=y_N)


def write_first_images(path: Path, source: Path, num_images: int) -> int:
    """The first images of a file of N,H,W,C or N,C,H,W bytes, as N,H,W,C; how many there are."""
    with np.load(source) as arrays:
        x, y = arrays["x_train"][:num_images], arrays["y_train"][:num_images]
    if x.ndim == 4 and x.shape[1] == SHAPE[0]:
        x = x.transpose(0, 2, 3, 1)
    if x.shape[1:] != (*SHAPE[1:], SHAPE[0]) or x.dtype != np.uint8:
        raise SystemExit(f"{source}: x_train has shape {x.shape} of {x.dtype}.\nAllowed: 32x32 images of 3 bytes.")
    np.savez(path, x_train=np.ascontiguousarray(x), y_train=y.reshape(-1))
    return len(x)
