"""A teacher: a net or an ensemble in a folder, and what it says of the training images, asked once before training.

Shape suffixes: N = images, B = batch, C = channels (of logits and probabilities: classes), H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from hpsearch.config import ModelConfig, StudyConfig
from hpsearch.config.net_folder import DESCRIPTION, MEAN, STD, WRITES, folder_hash, read_description, weights_files
from hpsearch.config.study import validate
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.stored import chunks
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.models import build
from hpsearch.training.distillation import Taught
from hpsearch.training.precision import PRECISIONS

KEY = "train.teacher"
CHUNK = 256  # images that are shown to it at a time

_said: MutableMapping[Any, dict[str, Tensor]] = WeakIdKeyDictionary()
"""Of training images, by the teacher's hash: packs of the same images ask once."""


def taught(config: StudyConfig, data: TrainingData) -> Taught | None:
    """The training images' labels with what the teacher says of them; None where a study has no teacher.

    Images are shown to it as they are, without augmentation, normalized as its own training images were.

    Raises:
        ConfigError: there is no such folder, or its nets are not for these images.
        RefusedError: a net of it is code of the user's that nobody has vouched for.
    """
    folder = config.train.teacher
    if folder is None:
        return None
    known = _said.setdefault(data.x_train_NCHW, {})
    name = folder_hash(KEY, folder)
    if name not in known:
        known[name] = Teacher.read(folder).log_probabilities(data).cpu()
    like = torch.empty(0, dtype=PRECISIONS[config.train.precision], device=data.y_train_N.device)
    return Taught(data.y_train_N, known[name].to(like))


def refuse_missing(has_teacher: bool, share: float) -> None:
    """Say no to trials that would learn from a teacher, by this share of their loss, where none is named.

    Raises:
        ConfigError: it is so.
    """
    if share > 0 and not has_teacher:
        raise ConfigError(
            f"train.distill = {share:g} is the share of a teacher in the loss, and there is none.\n"
            f"Allowed: {KEY}, {WRITES}; or train.distill = 0."
        )


@dataclass(frozen=True, eq=False)
class Member:
    """One net of a teacher, how it wants its images, and its weight among the others."""

    net: nn.Module
    weight: float
    factor: float
    mean: Tensor
    std: Tensor


@dataclass(frozen=True, eq=False)
class Teacher:
    """One net or several."""

    folder: str
    shape: tuple[int, ...]
    """Of an image."""
    class_names: tuple[str, ...]
    nets: tuple[Member, ...]

    @classmethod
    def read(cls, folder: str) -> Teacher:
        """What `best --weights` or `ensemble --weights` wrote.

        Raises:
            ConfigError: it is not there, or not whole.
            RefusedError: it needs code of the user's that nobody has vouched for.
        """
        description, said = read_description(KEY, folder)
        try:
            if description.name == DESCRIPTION:
                parts = [{"weight": 1.0, "factor": said["images"]["factor"], "model": said["model"]}]
            else:
                parts = list(said["members"].values())
            _refuse_untrusted_nets(folder, parts)
            shape, classes = tuple(map(int, said["images"]["shape"])), tuple(map(str, said["classes"]["names"]))
            files = weights_files(description, said)
            nets = tuple(_net(part, path, shape, len(classes)) for part, path in zip(parts, files, strict=True))
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise ConfigError(f"{KEY} = {folder!r} cannot be used: {error!r}.\nAllowed: {WRITES}.") from None
        return cls(folder, shape, classes, nets)

    @torch.no_grad()
    def log_probabilities(self, data: TrainingData) -> Tensor:
        """Of all training images, N,C in float64 on the CPU.

        Raises:
            ConfigError: it was made for images of another shape, or for other classes.
        """
        for what, own, theirs in (
            ("images", self.shape, data.shape),
            ("classes", self.class_names, tuple(map(str, data.class_names))),
        ):
            if own != theirs:
                raise ConfigError(
                    f"{KEY} = {self.folder!r} was made for {what} {_listed(own)}, these are {_listed(theirs)}.\n"
                    "Allowed: a teacher of the same images."
                )
        device, normalization = data.y_train_N.device, data.normalization
        mean, std = (torch.from_numpy(np.asarray(part)).double() for part in (normalization.mean, normalization.std))
        nets = [(each, each.net.to(device).eval()) for each in self.nets]
        found = []
        for x_BCHW in chunks(data.x_train_NCHW, CHUNK):
            stored_BCHW = x_BCHW.cpu().double()
            if isinstance(data.x_train_NCHW, Tensor) and x_BCHW.is_floating_point():  # they are normalized already
                stored_BCHW = (stored_BCHW * std + mean) / normalization.factor
            parts = [each.weight * _says(each, net, stored_BCHW, device) for each, net in nets]
            found.append(torch.stack(parts).sum(0))
        tiny = torch.finfo(torch.float64).tiny
        return torch.cat(found).clamp(min=tiny).log()


def _says(own: Member, net: nn.Module, stored_BCHW: Tensor, device: torch.device) -> Tensor:
    """Probabilities, in float64 on the CPU."""
    x_BCHW = (stored_BCHW.to(own.mean.dtype) * own.factor - own.mean) / own.std
    probabilities_BC: Tensor = net(x_BCHW.to(device)).cpu().double().softmax(1)
    return probabilities_BC


def _net(part: Mapping[str, Any], path: Path, shape: tuple[int, ...], num_classes: int) -> Member:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
    mean, std = state.pop(MEAN), state.pop(STD)
    channels, height, width = shape
    net = build(validate(ModelConfig, part["model"], "model"), (channels, height, width), num_classes).to(mean.dtype)
    net.load_state_dict(state)
    return Member(net, float(part["weight"]), float(part["factor"]), mean, std)


def _refuse_untrusted_nets(folder: str, parts: Sequence[Mapping[str, Any]]) -> None:
    names = {name for part in parts for name in names_in({"model": part["model"]})}
    try:
        refuse_untrusted(names)
    except RefusedError:
        listed = ", ".join(sorted(names))
        modules = " ".join(f"--trust {name.partition(':')[0]}" for name in sorted(names))
        raise RefusedError(
            f"{KEY} = {folder!r} needs the code {listed}, which you have not named, so it is not imported.\n"
            f"If it is yours, allow it: {modules}."
        ) from None


def _listed(values: tuple[Any, ...]) -> str:
    text = ", ".join(map(str, values[:5]))
    return f"({text}{', ...' if len(values) > 5 else ''})"
