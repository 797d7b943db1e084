"""A net as lines of code: its layers as PyTorch's own, or its library's, spelt out, for scripts without hpsearch.

The names of the layers are those of the weights, so these load as they are.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.config.net_names import is_library_net
from hpsearch.config.schema.model import MODELS, SMALL_RESNET_DEPTHS
from hpsearch.config.usercode import is_user_code
from hpsearch.errors import ConfigError
from hpsearch.models import Dropout, build
from hpsearch.models.early_nets import EarlyNet, End
from hpsearch.models.fixup import FixupBlock, Shift, with_scalars
from hpsearch.models.layers import DropConnect, StochasticDepth
from hpsearch.models.library_nets import NUM_COLORS, Head, first_filters, library_options
from hpsearch.models.resnet import SMALL_WIDTH
from hpsearch.models.stages import head_names

INDENT = "    "
OF_GROUPS = ("layer", "group")  # normalizations of which nn.GroupNorm is told the number of groups

HEAD = (
    "",
    "class Head(nn.Linear):",
    "    def forward(self, x):  # which may have places of size 1 behind it",
    "        return super().forward(x.flatten(1))",
    "",
    "",
)
DROPCONNECT = (
    "",
    "class DropConnect(nn.Linear):",
    "    def __init__(self, in_features, out_features, bias, rate):",
    "        super().__init__(in_features, out_features, bias)",
    "        self.rate = rate",
    "",
    "    def forward(self, x):  # in training, without some of the weights: one noise for all images",
    "        return nn.functional.linear(x, nn.functional.dropout(self.weight, self.rate, self.training), self.bias)",
    "",
    "",
)


def layer_imports(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> tuple[list[str], list[str]]:
    """Packages beside torch that the lines of `net_code` need, and the lines that import what they use."""
    if is_user_code(config.name):
        return [], []
    imports = ["from torch import nn"]
    if config.name == "resnet":
        names = ", ".join(_residual_names(config))
        grouped = ["from functools import partial"] if config.normalization in OF_GROUPS else []
        return ["torchvision"], [*imports, f"from torchvision.models.resnet import {names}", *grouped]
    if is_library_net(config.name):
        library = config.name.partition(":")[0]
        nested = ["from collections import OrderedDict"] if _is_nested(config, shape, num_classes) else []
        return [library], [*imports, "import timm" if library == "timm" else "from torchvision import models", *nested]
    return [], [*imports, "from collections import OrderedDict"]


def net_code(
    config: ModelConfig, shape: tuple[int, int, int], num_classes: int, *, trains: bool = False
) -> Iterator[str]:
    """The lines that make `net`, with the layers' names of hpsearch.

    One that `trains` has its layers of noise, too, which do nothing in prediction.

    Raises:
        ConfigError: it is a net that cannot be spelt out.
    """
    if is_user_code(config.name):
        module, _, function = config.name.partition(":")
        options = "".join(f", {key}={value!r}" for key, value in config.options.items())
        yield 'sys.path.insert(0, ".")  # run it where the code of the net is'
        yield f"from {module} import {function}"
        yield ""
        yield f"net = {function}({shape}, {num_classes}{options})"
        return
    net = build(config, shape, num_classes)
    if is_library_net(config.name):
        yield from _library_net(net, config.name, shape, config.dropout if trains else 0.0, trains=trains)
        return
    if isinstance(net, nn.Sequential):
        if trains and config.dropconnect > 0:
            yield from DROPCONNECT
        yield "net = nn.Sequential("
        yield "    OrderedDict("
        yield from (f"        {name}={_layer(layer, trains=trains)}," for name, layer in net.named_children())
        yield "    )"
        yield ")"
        return
    if config.name != "resnet":
        raise ConfigError(
            f"the net {config.name} cannot be spelt out in layers of PyTorch.\n"
            f"Allowed: {', '.join(MODELS)}, torchvision:NAME, timm:NAME, MODULE:FUNCTION."
        )
    if trains and config.dropconnect > 0:
        yield from DROPCONNECT
    yield from _residual_net(net, config, num_classes, trains=trains)
    if trains and config.stochastic_depth > 0:
        yield from _stochastic_depth(net, config.init == "fixup")


def _residual_names(config: ModelConfig) -> list[str]:
    """Of torchvision."""
    return ["BasicBlock", "ResNet"] if config.depth in SMALL_RESNET_DEPTHS else [f"resnet{config.depth}"]


def _residual_net(net: nn.Module, config: ModelConfig, num_classes: int, *, trains: bool) -> Iterator[str]:
    """torchvision's, and what is another than there."""
    if config.init == "fixup":
        for each in (Shift, FixupBlock, with_scalars):
            yield from [*inspect.getsource(each).splitlines(), "", ""]
    norm = f", norm_layer={_norm(config)}" if config.normalization != "batch" else ""
    if config.depth not in SMALL_RESNET_DEPTHS:
        yield f"net = resnet{config.depth}(num_classes={num_classes}{norm})"
    else:
        blocks = (config.depth - 2) // 6
        yield f"net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes={num_classes}{norm})"
        yield f"net.inplanes = {SMALL_WIDTH}"
        for stage in range(3):
            stride = ", stride=2" if stage else ""
            yield f"net.layer{stage + 1} = net._make_layer(BasicBlock, {SMALL_WIDTH << stage}, {blocks}{stride})"
            if stage:
                more = (SMALL_WIDTH << stage) // 4  # channels of zeros on each side
                pad = f"nn.ConstantPad3d((0, 0, 0, 0, {more}, {more}), 0.0)"
                yield f"net.layer{stage + 1}[0].downsample = nn.Sequential(nn.AvgPool2d(1, 2), {pad})"
        yield "net.layer4 = nn.Identity()"
        yield f"net.bn1 = net._norm_layer({SMALL_WIDTH})"
    if config.depth in SMALL_RESNET_DEPTHS or (trains and config.dropconnect > 0):
        yield f"net.fc = {_layer(net.get_submodule('fc'), trains=trains)}"
    yield f"net.conv1 = {_layer(net.get_submodule('conv1'))}"
    if isinstance(net.get_submodule("maxpool"), nn.Identity):
        yield "net.maxpool = nn.Identity()"
    if config.init == "fixup":
        yield "with_scalars(net)"
    if config.dropout > 0:
        before = "*net.avgpool" if config.init == "fixup" else "net.avgpool"
        yield f"net.avgpool = nn.Sequential({before}, nn.Dropout({config.dropout:g}))"


def _stochastic_depth(net: nn.Module, is_fixup: bool) -> Iterator[str]:
    """Behind the last layer of each branch, without a name of its own there."""
    rates = {
        name.removesuffix(".drop"): module.rate.item()
        for name, module in net.named_modules()
        if isinstance(module, StochasticDepth)
    }
    yield "for name, rate in {"
    yield from (f'    "{name}": {rate:.6g},' for name, rate in rates.items())
    yield "}.items():"
    if is_fixup:
        yield '    net.get_submodule(name).drop = StochasticDepth(rate, "row")'
        return
    last = "bn3" if hasattr(net.get_submodule(next(iter(rates))), "bn3") else "bn2"
    yield f'    net.get_submodule(f"{{name}}.{last}").register_forward_hook('
    yield '        lambda layer, _inputs, out, rate=rate: stochastic_depth(out, rate, "row", layer.training)'
    yield "    )"


def _norm(config: ModelConfig) -> str:
    """What makes a normalization for a number of channels."""
    match config.normalization:
        case "none":
            return "nn.Identity"
        case "instance":
            return "lambda channels: nn.GroupNorm(channels, channels)"
    return f"partial(nn.GroupNorm, {1 if config.normalization == 'layer' else config.groups})"


def _library_net(
    net: nn.Module, name: str, shape: tuple[int, int, int], dropout: float, *, trains: bool
) -> Iterator[str]:
    """The library's own, and what is another than there."""
    library, _, own_name = name.partition(":")
    options = library_options(name, shape)
    said = "".join(f", {key}={value!r}" for key, value in options.items())
    places = [_changed(net, place) for place in head_names(net)]
    if any(isinstance(module, Head) for module in net.modules()):
        yield from HEAD if dropout == 0 else (line.replace(*_with_dropout(dropout)) for line in HEAD)
    if isinstance(net, EarlyNet):
        for each in (End, EarlyNet):
            yield from [*inspect.getsource(each).splitlines(), "", ""]
    yield f'net = {"timm.create_model" if library == "timm" else "models.get_model"}("{own_name}"{said})'
    first = first_filters(net.body if isinstance(net, EarlyNet) else net)
    if first is not None and first[1].in_channels != NUM_COLORS:
        if trains:  # it begins with what the library's own filters make of such images
            yield from _fitted(first[0], first[1].in_channels)
        else:
            yield f'net.set_submodule("{first[0]}", {_layer(first[1])})'
    if isinstance(net, EarlyNet):
        yield "left_out = ("
        yield from textwrap.wrap(
            " ".join(f'"{name}",' for name in net.left_out), 110, initial_indent=INDENT, subsequent_indent=INDENT
        )
        yield ")"
        yield f'net = EarlyNet(net, nn.Identity(), "{net.end}", left_out, channels_last={net.channels_last})'
    for place in places:
        yield f'net.set_submodule("{place}", {_part(net.get_submodule(place))})'


def _fitted(name: str, channels: int) -> Iterator[str]:
    """See `library_nets.fitted_filters`."""
    filters = ".sum(1, keepdim=True)"
    if channels > 1:
        filters = f".repeat(1, {-(-channels // NUM_COLORS)}, 1, 1)[:, :{channels}] * ({NUM_COLORS} / {channels})"
    yield f'first = net.get_submodule("{name}")'
    yield f"first.weight = nn.Parameter(first.weight.detach(){filters})"
    yield f"first.in_channels = {channels}"


def _changed(net: nn.Module, place: str) -> str:
    """Of a head: itself, or the sequence around it where that pools now."""
    parent = place.rpartition(".")[0]
    around = net.get_submodule(parent)
    return parent if parent and any(type(each) is nn.Flatten for each in around.children()) else place


def _is_nested(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> bool:
    net = build(config, shape, num_classes)
    return any(isinstance(net.get_submodule(_changed(net, place)), nn.Sequential) for place in head_names(net))


def _part(module: nn.Module, indent: str = "") -> str:
    if isinstance(module, nn.Sequential):
        inside = "".join(
            f'{indent}    ("{name}", {_part(layer, f"{indent}    ")}),\n' for name, layer in module.named_children()
        )
        return f"nn.Sequential(OrderedDict([\n{inside}{indent}]))"
    return f"Head({module.in_features}, {module.out_features})" if isinstance(module, Head) else _layer(module)


def _with_dropout(rate: float) -> tuple[str, str]:
    return "x.flatten(1)", f"nn.functional.dropout(x.flatten(1), {rate:g}, self.training)"


def _layer(layer: nn.Module, *, trains: bool = False) -> str:
    """As one would write it: PyTorch shows its own layers so."""
    if isinstance(layer, DropConnect):
        return (
            f"DropConnect({layer.extra_repr()}, rate={layer.rate.item():g})"
            if trains
            else f"nn.Linear({layer.extra_repr()})"
        )
    return f"nn.Dropout({layer.rate.item():g})" if isinstance(layer, Dropout) else f"nn.{layer!r}"
