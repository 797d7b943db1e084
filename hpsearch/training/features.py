"""Features of a frozen body, computed once and kept on disk: a search over heads needs no body in its steps.

Shape suffixes: N = images, B = batch, C = channels, H, W = height and width, F = features, V = views of an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hpsearch.config import StudyConfig
from hpsearch.config.augmentations import active
from hpsearch.config.identity import identified
from hpsearch.config.net_names import has_given_weights
from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.augmentation import HFLIP_VIEW
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.frozen_body import FrozenBody
from hpsearch.datasets.stored import chunks
from hpsearch.errors import DataError
from hpsearch.models import build_initialized
from hpsearch.models.stages import head_names

CHUNK = 64  # images that go through the body at a time
HASHED = 1024  # images at a time
DIGEST_BYTES = 16


def may_have_features(config: StudyConfig) -> bool:
    """Whether the body gives the same for an image in every step, and in every trial of every seed.

    With a teacher, or a loss of the user's, it stays in front of its head all the same, as these are shown images.
    """
    return config.train.teacher is None and config.train.step is None and _is_fixed(config) and not _changes(config)


def _is_fixed(config: StudyConfig) -> bool:
    return config.model.freeze == "all" and has_given_weights(dict(config.model))


def why_not(config: StudyConfig) -> str | None:
    """What to say where a frozen body has to run in every step nevertheless."""
    if not _is_fixed(config):
        return None
    if config.train.teacher is not None:
        return f"train.teacher = {config.train.teacher} is shown images, so the frozen body runs in every step"
    if not _changes(config):
        return None
    return f"data.augment = {_changes(config)[0]} changes each image anew, so the frozen body runs in every step"


def _changes(config: StudyConfig) -> list[str]:
    return [text for each in active(config.data.augment) if (text := str(each)) != "hflip"]


def with_features(config: StudyConfig, data: TrainingData, cache_dir: Path) -> TrainingData:
    """The same with features for images, from the cache or computed now in evaluation mode.

    Raises:
        ConfigError: the weights cannot be had.
        DataError: the cache cannot be written.
    """
    num_views = 2 if "hflip" in config.data.augment else 1
    path = cache_dir / f"features-{_key(config, data, num_views)}.npy"
    like = data.x_val_NCHW
    dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
    rows = num_views * data.num_train + data.num_val
    found = _kept(path, rows, dtype)
    if found is None:
        body = frozen_body(config, data)
        if body is None:
            return data
        features_NF = torch.cat([_through(body, images) for images in _views(data, num_views)]).cpu()
        _keep(path, features_NF)
        found = features_NF.numpy()
    return _replaced(data, torch.from_numpy(found), num_views)


def computed_features(body: nn.Module, data: TrainingData) -> TrainingData:
    """As `with_features`, computed now by a `frozen_body` and kept nowhere, of images as they are."""
    return _replaced(data, torch.cat([_through(body, images) for images in _views(data, 1)]).cpu(), 1)


def _replaced(data: TrainingData, features_NF: Tensor, num_views: int) -> TrainingData:
    """Images by their features: those of all training images, view by view, then of the hold-out."""
    like = data.x_val_NCHW
    train_VNF = features_NF[: num_views * data.num_train].view(num_views, data.num_train, -1)
    num_features = train_VNF.shape[2]
    val_NF = features_NF[num_views * data.num_train :]
    train_NF = train_VNF.permute(1, 0, 2).reshape(data.num_train, -1)  # a view of memory on disk, where there is one
    return replace(
        data,
        x_train_NCHW=train_NF[:, :, None, None].to(like.device),
        x_val_NCHW=val_NF[:, :, None, None].to(like.device),
        augment=(HFLIP_VIEW,) if num_views == 2 else (),
        body=FrozenBody(num_features, num_views),
        memory=None,
    )


def whole_state(config: StudyConfig, data: TrainingData, head_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trained head with the body in front of it, by the names that the net has.

    Args:
        config: of the whole net.
        data: with features for images.
        head_state: by the names of the head as a net of its own.
    """
    net = build_initialized(config.model, data.shape, data.num_classes, config.train.seed)
    (head,) = head_names(net)
    like = next(iter(head_state.values()))
    plain = not config.model.hidden
    own = {f"{head}.{name.removeprefix('fc1.') if plain else name}": tensor for name, tensor in head_state.items()}
    return {
        name: own[name] if name in own else tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)
        for name, tensor in net.state_dict().items()
    }


def head_state(config: StudyConfig, data: TrainingData, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a whole net's state what its head has, by the names of the head as a net of its own: `whole_state` undone."""
    (head,) = head_names(build_initialized(config.model, data.shape, data.num_classes, config.train.seed))
    before = "" if config.model.hidden else "fc1."
    return {
        f"{before}{name.removeprefix(f'{head}.')}": tensor
        for name, tensor in state.items()
        if name.startswith(f"{head}.")
    }


def frozen_body(config: StudyConfig, data: TrainingData) -> nn.Module | None:
    """Images to features; None where a net has several heads.

    Raises:
        ConfigError: the weights cannot be had.
    """
    net = build_initialized(config.model, data.shape, data.num_classes, config.train.seed)
    heads = head_names(net)
    if len(heads) != 1:
        return None
    parent, _, name = heads[0].rpartition(".")
    setattr(net.get_submodule(parent), name, nn.Identity())
    return net.to(data.x_val_NCHW.device, data.x_val_NCHW.dtype).eval()


def _views(data: TrainingData, num_views: int) -> Iterator[Iterator[Tensor]]:
    """The training images as they are, perhaps flipped, and the hold-out, each a few at a time: memory may not do."""
    rows_N = torch.arange(data.num_train, device=data.y_train_N.device)
    for view in range(num_views):
        parts = (data.train_images(rows_B) for rows_B in torch.split(rows_N, CHUNK))
        yield (part.flip(-1) for part in parts) if view else parts
    yield iter(chunks(data.x_val_NCHW, CHUNK))


@torch.no_grad()
def _through(body: nn.Module, images: Iterator[Tensor]) -> Tensor:
    return torch.cat([body(x_BCHW).flatten(1) for x_BCHW in images])


def _key(config: StudyConfig, data: TrainingData, num_views: int) -> str:
    """Of the images as they go into the body, of the body, and of the library that runs it."""
    model = identified(config.plain())["model"]
    body = {key: model.get(key) for key in ("name", "pretrained", "weights")}
    body |= {"features": config.model.features} if config.model.features != "last" else {}  # older caches stay
    versions = torch.__version__, version("torchvision")
    said = f"{sorted(body.items(), key=str)} {versions} {num_views} {data.x_val_NCHW.dtype}"
    digest = hashlib.blake2b(said.encode(), digest_size=DIGEST_BYTES)
    for numbers in (data.normalization.mean, data.normalization.std, np.array(data.normalization.factor)):
        digest.update(np.ascontiguousarray(numbers).data)
    for x_NCHW in (data.x_train_NCHW, data.x_val_NCHW):
        digest.update(f"{tuple(x_NCHW.shape)}".encode())
        for x_BCHW in chunks(x_NCHW, HASHED):
            digest.update(np.ascontiguousarray(x_BCHW.cpu().numpy()).data)
    return digest.hexdigest()


def _kept(
    path: Path, rows: int, dtype: np.dtype[np.generic]
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """What is in the cache, mapped; None where nothing is, or something else."""
    try:
        found: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = np.load(path, mmap_mode="c", allow_pickle=False)
        digest = path.with_suffix(".digest").read_bytes()
    except (OSError, ValueError, EOFError):
        return None
    fits = found.ndim == 2 and len(found) == rows and found.dtype == dtype
    return found if fits and _digest(found) == digest else None


def _keep(path: Path, features_NF: Tensor) -> None:
    array = np.ascontiguousarray(features_NF.numpy())
    try:
        with replacing(path.with_suffix(".digest")) as file:
            file.write(_digest(array))
        with replacing(path) as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
    except OSError as error:
        raise DataError(f"the cache {path} cannot be written: {error}") from error


def _digest(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=DIGEST_BYTES).digest()
