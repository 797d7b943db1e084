"""Weights of a training before, for a net of a library: the library's own, or those of a file.

Nothing in a file is run: safetensors, or what `torch.load(weights_only=True)` takes.
"""

from __future__ import annotations

import sys
import urllib.error
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.library_recipes import recipe, torchvision_weights
from hpsearch.errors import ConfigError
from hpsearch.models.early_nets import EarlyNet
from hpsearch.models.library_nets import first_filters, fitted_filters, timm_net
from hpsearch.models.stages import head_names

State = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # under which trainings keep the weights
PREFIXES = ("module.", "model.", "_orig_mod.", "weights/")  # of DataParallel, Lightning, torch.compile, our own files
OURS = "portrait/"  # what our own files have beside weights
MAX_NAMED = 4  # tensors in a message


def load_given(net: nn.Module, config: ModelConfig, shape: tuple[int, int, int]) -> None:
    """Put the weights that [model] names into a net as `build_library_net` made it; the head stays as it is.

    Raises:
        ConfigError: they cannot be had, or are not those of this net.
    """
    if isinstance(net, EarlyNet):
        net = net.body
    if config.pretrained:
        load_state(net, _fetched(config, shape), f"model.pretrained = true of {config.name}")
    elif config.weights is not None:
        state = _adapted(net, config, read_weights(config.weights).state, shape)
        load_state(net, state, f"model.weights = {config.weights!r}")


def load_state(net: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy these tensors into the net, but for those of the head, and of what is left out of the net.

    Args:
        net: of any precision.
        state: of the same net, for colour images or for those of the net.
        what: whose they are, for a message.

    Raises:
        ConfigError: one is missing, has another shape, or belongs to another net.
    """
    heads = head_names(net)
    left_out: tuple[str, ...] = getattr(net, "left_out", ())
    below = tuple(f"{name}." for name in (*heads, *left_out))
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(below)}
    given = {n: t for n, t in state.items() if not n.startswith(below) and (n in own or not _is_auxiliary(n))}
    if (first := first_filters(net)) is not None:
        name = f"{first[0]}.weight"
        if name in given and given[name].ndim == 4 and given[name].shape[1] == 3 != own[name].shape[1]:
            given[name] = fitted_filters(given[name], own[name].shape[1])
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # which old files lack
    wrong = [
        *(f"{name} is missing" for name in own if name not in given and name not in counters),
        *(f"{name} is unexpected" for name in given if name not in own),
        *(
            f"{name} is {list(given[name].shape)}, not {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in given and given[name].shape != tensor.shape
        ),
    ]
    if wrong:
        more = f", and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise ConfigError(
            f"{what} does not fit this net: {'; '.join(wrong[:MAX_NAMED])}{more}.\n"
            f"Allowed: weights of the same net; only those of the head, {', '.join(heads)}, may differ."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if name in given:
                tensor.copy_(given[name])


class Weights(NamedTuple):
    """Tensors by name, and plain sentences on how they were read."""

    state: State
    notes: tuple[str, ...]


def read_weights(path: str) -> Weights:
    """The tensors of a file by name, without what trainings put around them.

    Raises:
        ConfigError: it is not there, or holds no tensors.
    """
    file = Path(path).expanduser()
    said = f"model.weights = {path!r}"
    if not file.is_file():
        raise ConfigError(f"{said} is not a file: looked for {file.absolute()}.\nAllowed: a file of weights.")
    allowed = "Allowed: safetensors, or a state dict as torch.save(net.state_dict(), FILE) writes it."
    try:
        found: Any = _read(file)
    except Exception as error:  # of safetensors, zip files and torch: of any kind
        if type(error).__name__ == "UnpicklingError" and zipfile.is_zipfile(file):
            message = f"{said} holds more than tensors, which would have to be run to be read.\n{allowed}"
            raise ConfigError(message) from error
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{said} cannot be read: {reason}.\n{allowed}") from error
    notes = []
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            notes.append(f"{path}: its weights are those under {wrapper!r}")
            found = found[wrapper]
            break
    state = {str(n): t for n, t in found.items() if isinstance(t, Tensor)} if isinstance(found, Mapping) else {}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(OURS)}
    if not state:
        raise ConfigError(f"{said} holds no tensors by name.\n{allowed}")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        notes.append(f"{path}: {prefix!r} before every name is left out")
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return Weights(state, tuple(notes))


def _read(file: Path) -> Any:
    """Whatever its ending: our own files have none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError:
        if file.suffix == ".safetensors":
            raise
    return torch.load(file, map_location="cpu", weights_only=True)


def _fetched(config: ModelConfig, shape: tuple[int, int, int]) -> Mapping[str, Tensor]:
    """The library's own weights, which it downloads and checks, unless they are there."""
    library, _, name = config.name.partition(":")
    try:
        if library == "timm":
            return timm_net(name, shape, pretrained=True).state_dict()
        state: Mapping[str, Tensor] = torchvision_weights(name).get_state_dict(progress=False, check_hash=True)
    except ConfigError:
        raise
    except Exception as error:  # of urllib, sockets, hashes, the hub: of any kind
        if isinstance(error, urllib.error.HTTPError):  # it holds the connection
            error.close()
        found = recipe(config.name)
        reason = str(error).partition("\n")[0] or type(error).__name__
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        place = f", or put it at {folder / Path(found.url).name}" if library == "torchvision" else ""
        raise ConfigError(
            f"model.pretrained = true of {config.name}: {found.url or found.origin} cannot be fetched: {reason}.\n"
            f"Fetch it where there is a network, and name it here: model.weights = 'FILE'{place}."
        ) from error
    return _resized(name, state, shape) if name.startswith("vit_") else state


def _adapted(net: nn.Module, config: ModelConfig, state: State, shape: tuple[int, int, int]) -> Mapping[str, Tensor]:
    """As the library makes weights fit another version of its net, or images of another size."""
    library, _, name = config.name.partition(":")
    if library == "torchvision":
        return _resized(name, state, shape) if name.startswith("vit_") else state
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    converted: Mapping[str, Tensor] = state if convert is None else convert(state, net)
    return converted


def _resized(name: str, state: Mapping[str, Tensor], shape: tuple[int, int, int]) -> Mapping[str, Tensor]:
    """torchvision's own way for the positions of a vision transformer."""
    from collections import OrderedDict

    from torchvision.models.vision_transformer import interpolate_embeddings

    patch_size = int(name.rpartition("_")[2])
    resized: Mapping[str, Tensor] = interpolate_embeddings(shape[1], patch_size, OrderedDict(state))
    return resized


def _is_auxiliary(name: str) -> bool:
    """Of googlenet and inception_v3: heads in their middle, which only their first training had."""
    return name.startswith(("aux1.", "aux2.", "AuxLogits."))
