"""Nets of the user's own: `model.name = "module:function"`.

Shapes: B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.usercode import UserCodeError, blame, load
from hpsearch.models.initialization import weight_names


@torch.inference_mode(mode=False)  # or nothing would have a gradient where nets are asked for answers
def build_user_net(config: ModelConfig, shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """The net that the user's `function(shape, num_classes, **options)` makes, tried on two images.

    Its weights are those that the function gives it, with PyTorch's generator seeded by `seed`: the same in each
    process and on each device, as long as they are drawn on the CPU. Parameters that need no gradient stay as they
    are. The caller's random state stays, too.

    Raises:
        RefusedError: the name is in the database alone; see `config.usercode`.
        UserCodeError: the function raises, or gives no net from x_BCHW to logits_BC with weights to train.
    """
    name = config.name
    function = load(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        with blame(name, f"calling it with {_called(config, shape, num_classes)}"):
            net = function(shape, num_classes, **config.options)
        if not isinstance(net, nn.Module):
            raise UserCodeError(f"{name} gave {type(net).__name__}.\nAllowed: a torch.nn.Module.")
        _try(name, net, shape, num_classes)
    if not weight_names(net):
        raise UserCodeError(f"{name} gave a net without weights.\nAllowed: trained parameters of 2 or more dimensions.")
    return net


def _called(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> str:
    return ", ".join([str(shape), str(num_classes), *(f"{key}={value!r}" for key, value in config.options.items())])


@torch.no_grad()
def _try(name: str, net: nn.Module, shape: tuple[int, int, int], num_classes: int) -> None:
    """Whether the net takes images as it will be given them: single ones, and in training mode; leaves no trace."""
    like = next(iter([*net.parameters(), *net.buffers()]), torch.empty(0))
    x_BCHW = torch.zeros(2, *shape, device=like.device)
    if not nn.parameter.is_lazy(like):  # a lazy layer has no type yet
        x_BCHW = x_BCHW.to(like.dtype)
    net.eval()
    _check_logits(name, net, x_BCHW, num_classes)
    _check_logits(name, net, x_BCHW[:1], num_classes)
    if like.dtype in (torch.float16, torch.bfloat16):
        wide = f"its net, whose weights in {str(like.dtype).removeprefix('torch.')} are trained in float32,"
        _check_logits(name, copy.deepcopy(net).float(), x_BCHW.float(), num_classes, wide)
    buffers = dict(net.named_buffers())
    kept = {key: buffer.clone() for key, buffer in buffers.items()}
    net.train()
    with torch.enable_grad():
        logits_BC = _check_logits(name, net, x_BCHW, num_classes)
    _put(kept, buffers)  # as the statistics of batch normalization
    if weight_names(net) and not logits_BC.requires_grad:
        raise UserCodeError(
            f"{name}: the logits of its net have no gradient, so nothing would train.\n"
            "Allowed: a forward without torch.no_grad(), .detach() or .data on the way from the weights."
        )
    if replaced := [key for key, buffer in net.named_buffers() if buffer is not buffers.get(key)]:
        key = replaced[0]
        raise UserCodeError(
            f"{name}: its net replaces its buffer {key!r} in forward, which is lost with the step.\n"
            f"Allowed: to change it in place, as self.{key.rpartition('.')[2]}.copy_(...)."
        )
    if like.device.type == "cpu":
        _check_repeats(name, net, torch.rand(x_BCHW.shape).to(x_BCHW.dtype), buffers, kept)


def _check_repeats(name: str, net: nn.Module, x_BCHW: Tensor, buffers: _Named, kept: _Named) -> None:
    """Whether buffers and weights are all that a step depends on, and all that it leaves behind.

    What else a net keeps would be that of all trials of a pack together, and gone after an interruption. One that draws
    from Python's or NumPy's chance gives other logits, too, and is left alone.
    """
    state = torch.default_generator.get_state()
    chance = _other_chance()
    found, before = [], _attributes(net)
    for _ in range(2):
        torch.default_generator.set_state(state)
        with blame(name, "its net, given random images in training mode,"):
            found.append(net(x_BCHW))
        _put(kept, buffers)
    if torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-6, equal_nan=True) or _other_chance() != chance:
        return
    after = _attributes(net)
    changed = next((key for key, value in before.items() if after.get(key) != value), None)
    what = f"keeps {changed!r} from step to step" if changed else "keeps something from step to step"
    raise UserCodeError(
        f"{name}: its net {what}, which is no buffer, so trials would share it.\n"
        "Allowed: self.register_buffer(NAME, tensor) in __init__, changed in place in forward."
    )


_Named = dict[str, Tensor]


def _put(kept: _Named, buffers: _Named) -> None:
    for key, buffer in buffers.items():
        buffer.copy_(kept[key])


def _attributes(net: nn.Module) -> dict[str, tuple[object, ...]]:
    """What modules hold beside parameters and buffers, by name, as something that differs where it has changed."""
    found: dict[str, tuple[object, ...]] = {}
    for name, module in net.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                found[f"{name}.{key}" if name else key] = (id(value), value._version)
            elif isinstance(value, int | float) and key != "training":
                found[f"{name}.{key}" if name else key] = (value,)
    return found


def _other_chance() -> tuple[object, ...]:
    return random.getstate(), repr(np.random.get_state(legacy=False))


def _check_logits(name: str, net: nn.Module, x_BCHW: Tensor, num_classes: int, what: str | None = None) -> Tensor:
    mode = "training" if net.training else "evaluation"
    with blame(name, what or f"its net, given images of {list(x_BCHW.shape)} in {mode} mode,"):
        logits = net(x_BCHW)
    if not isinstance(logits, Tensor):
        raise UserCodeError(
            f"{name}: its net puts out {type(logits).__name__} in {mode} mode.\n"
            "Allowed: a tensor of logits alone; give back the first of several, or that under its key."
        )
    expected = (len(x_BCHW), num_classes)
    if logits.shape != expected or not logits.is_floating_point():
        raise UserCodeError(
            f"{name}: its net puts out {logits.dtype} of shape {list(logits.shape)} for images of "
            f"{list(x_BCHW.shape)}.\nAllowed: floats of shape {list(expected)}, one logit per class."
        )
    return logits
