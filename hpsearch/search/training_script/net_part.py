"""The part that makes the net, spelt out, with initial weights by model.init; and what of it trains, at which rates."""

from __future__ import annotations

import inspect
import math
from typing import Any

from torch import nn

from hpsearch.config import ModelConfig, StudyConfig
from hpsearch.config.net_names import is_library_net
from hpsearch.config.usercode import is_user_code
from hpsearch.errors import ConfigError
from hpsearch.models import build
from hpsearch.models.fixup import scale_branches
from hpsearch.models.initialization import ORTHOGONAL, SLOPE
from hpsearch.models.library_nets import first_filters, library_options
from hpsearch.models.lsuv import NUM_IMAGES
from hpsearch.models.stages import head_names, parts_of
from hpsearch.search.net_code import layer_imports, net_code
from hpsearch.search.training_script.parts import Part, part

Shape = tuple[int, int, int]


def net_part(config: StudyConfig, shape: Shape, num_classes: int) -> Part:
    """Lines that make `net`.

    Raises:
        ConfigError: it cannot be spelt out.
    """
    model = config.model
    packages, imports = layer_imports(model, shape, num_classes)
    imports += ["import sys"] if is_user_code(model.name) else []
    if model.stochastic_depth > 0:
        name = "StochasticDepth" if model.init == "fixup" else "stochastic_depth"
        imports.append(f"from torchvision.ops import {name}")
    code = "\n".join(net_code(model, shape, num_classes, trains=True)).strip("\n")
    net = build(model, shape, num_classes)
    given = part(
        "net",
        code=code,
        is_own=is_user_code(model.name),
        heads=list(head_names(net)) if is_library_net(model.name) else None,
        heads_prefix=tuple(f"{head}." for head in head_names(net)),
        draw=_draw(model),
        init=model.init,
        init_bias=model.init_bias,
        scaled=model.init_scale != 1,
        num_images=NUM_IMAGES,
        branches=inspect.getsource(scale_branches) if model.init == "fixup" else "",
        given=_given_weights(model, net, shape),
        frozen=frozen_modules(model, net),
        trained=_trained(net),
    )
    used = ["from torch import nn"] if not is_user_code(model.name) else []
    used += ["from safetensors.torch import load_file"] if (model.weights or "").endswith(".safetensors") else []
    packages += ["safetensors"] if (model.weights or "").endswith(".safetensors") else []
    return Part(given.text, (*imports, *used), tuple(packages))


def _draw(model: ModelConfig) -> str:
    """What draws the weights of a layer, by torch.nn.init: the same distribution."""
    slope = f", a={SLOPE}" if model.activation == "leaky_relu" and model.name != "resnet" else ""
    match model.init.partition(":"):
        case ("small", ":", std):
            return f"nn.init.normal_(layer.weight, std={float(std)!r})"
        case ("he" | "fixup", "", ""):
            return f"nn.init.kaiming_normal_(layer.weight{slope})"
        case ("he-uniform", "", ""):
            return f"nn.init.kaiming_uniform_(layer.weight{slope})"
        case ("he-out", "", ""):
            return f'nn.init.kaiming_normal_(layer.weight{slope}, mode="fan_out")'
        case ("xavier", "", ""):
            return "nn.init.xavier_normal_(layer.weight)"
        case ("xavier-uniform", "", ""):
            return "nn.init.xavier_uniform_(layer.weight)"
        case ("he-avg", "", ""):
            gain = math.sqrt(2 / (1 + SLOPE**2) if slope else 2.0)
            return f"nn.init.xavier_normal_(layer.weight, gain={gain:.6g})"
        case ("lecun", "", ""):
            return 'nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")'
        case ("lecun98", "", ""):
            return "nn.init.normal_(layer.weight, std=(3 * layer.weight[0].numel()) ** -0.5)"
        case ("orthogonal", "", ""):
            gain = ORTHOGONAL.get(model.activation, 1.0) if model.name != "resnet" else ORTHOGONAL["relu"]
            return f"nn.init.orthogonal_(layer.weight, gain={gain:.6g})"
        case ("lsuv", "", ""):
            return "nn.init.orthogonal_(layer.weight)"
    raise ConfigError(
        f"model.init = {model.init!r} cannot be written into a script.\nAllowed: -f toml, which hpsearch train takes."
    )


def _given_weights(model: ModelConfig, net: nn.Module, shape: Shape) -> dict[str, Any] | None:
    """Where the weights of a training before come from, for nets of a library."""
    if not is_library_net(model.name) or not (model.pretrained or model.weights):
        return None
    library, _, name = model.name.partition(":")
    if model.weights is not None:
        loads = "load_file({})" if model.weights.endswith(".safetensors") else "torch.load({}, weights_only=True)"
        origin = loads.format(repr(model.weights))
    elif library == "timm":
        options = "".join(f", {key}={value!r}" for key, value in library_options(model.name, shape).items())
        origin = f'timm.create_model("{name}", pretrained=True{options}).state_dict()'
    else:
        origin = f'models.get_model_weights("{name}").DEFAULT.get_state_dict(check_hash=True)'
    first = first_filters(net)
    return {"origin": origin, "first": f"{first[0]}.weight" if first is not None else None, "channels": shape[0]}


def frozen_modules(model: ModelConfig, net: nn.Module) -> list[str]:
    """The largest modules that model.freeze keeps as they are, in evaluation mode."""
    if model.freeze == "none":
        return []
    heads = head_names(net)
    if model.freeze != "all":
        stages = parts_of(net).stages
        return [name for stage in stages[: len(stages) - int(model.freeze)] for name in stage.modules]
    found: list[str] = []
    for name, _ in net.named_modules():
        touches = any(f"{head}.".startswith(f"{name}.") or name.startswith(f"{head}.") for head in heads)
        if name and not touches and not any(name.startswith(f"{each}.") for each in found):
            found.append(name)
    return found


def _trained(net: nn.Module) -> list[str] | None:
    """The largest modules with a parameter that trains; None where all do."""
    if all(parameter.requires_grad for parameter in net.parameters()):
        return None
    return [name for name, parameter in net.named_parameters() if not parameter.requires_grad]


def depths(config: StudyConfig, shape: Shape, num_classes: int) -> list[list[str]] | None:
    """Prefixes of parameters that share a rate, from the head on; None where all have the same.

    What has none of them belongs to the last.
    """
    if config.train.body_lr == 1 and config.train.layer_decay == 1:
        return None
    net = build(config.model, shape, num_classes)
    parts = parts_of(net)
    named = [list(head_names(net)), *(list(stage.modules) for stage in reversed(parts.stages))]
    return [[f"{name}." for name in names] for names in named]
