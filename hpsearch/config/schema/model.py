"""[model]: which net, and what it begins with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from hpsearch.config.beginnings import NO_WEIGHTS
from hpsearch.config.data_sources import FUNCTION, NOT_YET, PREFIXES, is_user_code, not_yet
from hpsearch.config.fields import CameLater, Known, OneOrMore, Options, OptionsField, Positive, Section, UsedBy, Vector
from hpsearch.config.net_names import FORMS, LIBRARY_NETS, is_library_net
from hpsearch.errors import ConfigError

MODELS = ("linear", "mlp", "lenet", "convnet", "vgg", "resnet")
CONVOLVING = ("convnet", "vgg")  # [(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K
RESNET_DEPTHS = (18, 34, 50, 101, 152)  # He et al. 2015, as torchvision has them
SMALL_RESNET_DEPTHS = (8, 14, 20, 32, 44, 56)  # 6n + 2, for images of 32 pixels (section 4.2 there)
VGG_DEPTHS = (11, 13, 16, 19)
DEPTHS = {"resnet": (*SMALL_RESNET_DEPTHS, *RESNET_DEPTHS), "vgg": VGG_DEPTHS}
NORMS = {
    "mlp": ("none", "batch", "layer"),
    **dict.fromkeys((*CONVOLVING, "resnet"), ("none", "batch", "layer", "instance", "group")),
}
OWN_DEFAULTS: dict[str, dict[str, Any]] = {"vgg": {"depth": 16, "hidden": ()}}
"""Of nets that are known with other values than those below."""

MODEL_FORMS = Known(MODELS, (*LIBRARY_NETS, FUNCTION))
FREEZES = Known(("none", "all"), ("N (as 2), stages from the end that train",))
FEATURES = Known(("last",), ("N (as 3), stages from the images on",))
POOLS = Known(("max", "average", "none"), ("true (max)", "false (none)"))
ONE_OR_EACH = Known((), ("a whole number of at least 1", "a list of them, one for each block"))
ODD_OR_EACH = Known((), ("an odd whole number", "a list of them, one for each block"))
WHOLE_NET = ("lsuv", "fixup")  # which make no sense of a head alone
INIT_FORMS = Known(
    ("lecun", "lecun98", "xavier", "xavier-uniform", "he", "he-uniform", "he-out", "he-avg", "orthogonal", *WHOLE_NET),
    ("small:STD (as small:1e-4)",),
)


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


def _features(taken: Any) -> str | int:
    if isinstance(taken, str) and taken.isdecimal():
        taken = int(taken)
    if taken == "last" or (isinstance(taken, int) and not isinstance(taken, bool) and taken >= 1):
        found: str | int = taken
        return found
    raise ValueError(f"allowed: {FEATURES}")


def _pool(kind: Any) -> Any:
    if isinstance(kind, bool) or kind in POOLS.values:
        return kind
    raise ValueError(f"allowed: {POOLS}")


def _numbers(allowed: Known, *, odd: bool = False) -> Callable[[Any], Any]:
    """A check of one whole number, or of one for each block."""

    def check(given: Any) -> Any:
        numbers = given if isinstance(given, list | tuple) else [given]
        for number in numbers:
            whole = isinstance(number, int | float) and not isinstance(number, bool) and number == int(number)
            if not (whole and number >= 1 and (number % 2 or not odd)):
                raise ValueError(f"allowed: {allowed}")
        if not numbers:
            raise ValueError(f"allowed: {allowed}")
        return tuple(int(number) for number in numbers) if isinstance(given, list | tuple) else int(given)

    return check


OneOrEach = Annotated[Positive | tuple[Positive, ...], BeforeValidator(_numbers(ONE_OR_EACH)), ONE_OR_EACH]
OddOrEach = Annotated[int | tuple[int, ...], BeforeValidator(_numbers(ODD_OR_EACH, odd=True)), ODD_OR_EACH]


class ModelConfig(Section):
    """Which net."""

    name: Annotated[str, AfterValidator(_model), MODEL_FORMS] = "mlp"
    """linear, mlp, lenet, convnet, vgg or resnet; torchvision:NAME and timm:NAME, with a new head for the classes; or
    MODULE:FUNCTION, called with (shape, num_classes, **options).
    """
    options: Annotated[OptionsField, CameLater, UsedBy("model.name", FUNCTION)] = Options()
    """Keyword arguments of the function, where name is MODULE:FUNCTION; each can be searched: "model.options.width"."""
    pretrained: Annotated[bool, CameLater, UsedBy("model.name", *LIBRARY_NETS)] = False
    """torchvision:NAME and timm:NAME: start from the library's own weights, which it downloads."""
    weights: Annotated[str | None, CameLater, UsedBy("model.name", *LIBRARY_NETS), Field(min_length=1)] = None
    """torchvision:NAME and timm:NAME: start from the weights in this file, safetensors or a state dict of torch.save;
    "none": from random ones.
    """
    freeze: Annotated[str | int, BeforeValidator(_freeze), CameLater, UsedBy("model.name", *LIBRARY_NETS), FREEZES] = (
        "none"
    )
    """torchvision:NAME and timm:NAME: all: only the head trains; N: the head and the last N stages. The rest stays as
    it is, in evaluation mode.
    """
    features: Annotated[
        str | int, BeforeValidator(_features), CameLater, UsedBy("model.name", *LIBRARY_NETS), FEATURES
    ] = "last"
    """torchvision:NAME and timm:NAME: what the head reads: last, the features of the whole body; N: those after the
    first N stages, as means over all places. What comes behind is left out.
    """
    hidden: Annotated[tuple[Positive, ...], OneOrMore, UsedBy("model.name", "mlp", "convnet", "vgg", *LIBRARY_NETS)] = (
        50,
    )
    """mlp: units of each hidden layer. convnet and vgg: units of the fully connected layers before the last, and so of
    the head of torchvision:NAME and timm:NAME; in these three it is [] by default, but for convnet.
    """
    activation: Annotated[
        Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"],
        UsedBy("model.name", "mlp", "lenet", "convnet", "vgg", *LIBRARY_NETS),
    ] = "relu"
    """Between the layers of mlp, lenet, convnet and vgg, and of the head of torchvision:NAME and timm:NAME: relu,
    leaky_relu, elu, gelu, silu, tanh, sigmoid or none.
    """
    channels: Annotated[tuple[Positive, ...], OneOrMore, UsedBy("model.name", "convnet")] = (32, 64)
    """convnet: channels of each of the M blocks."""
    convs: Annotated[OneOrEach, UsedBy("model.name", "convnet")] = 1
    """convnet: CONV-RELU pairs in a block (N), or in each block: [2, 2, 3]."""
    kernel: Annotated[OddOrEach, CameLater, UsedBy("model.name", "convnet")] = 3
    """convnet: side of the filters, odd, or of those of each block: [5, 3]; 1 mixes channels alone."""
    factor: Annotated[bool, CameLater, UsedBy("model.name", *CONVOLVING)] = False
    """convnet and vgg: true makes two of each convolution of N x N pixels, N x 1 and 1 x N, with an activation each."""
    stride: Annotated[OneOrEach, CameLater, UsedBy("model.name", "convnet")] = 1
    """convnet: step of a block's last convolution, or of each block's: 2 with pool = "none" is an all-convolutional
    net.
    """
    pool: Annotated[
        bool | Literal["max", "average", "none"], BeforeValidator(_pool), POOLS, UsedBy("model.name", *CONVOLVING)
    ] = True
    """convnet and vgg: what ends a block: a 2x2 pool, max or average, or none. true is max, false is none."""
    norm: Annotated[
        Literal["none", "batch", "layer", "instance", "group"] | None, CameLater, UsedBy("model.name", *NORMS)
    ] = None
    """Before each activation of mlp (none, batch, layer), of convnet, vgg and resnet (instance and group, too, of the
    convolutions alone). If not given: batch in resnet, none in the others.
    """
    batch_norm: Annotated[bool, UsedBy("model.name", "mlp", *CONVOLVING)] = False
    """mlp, convnet and vgg: true is norm = "batch"."""
    groups: Annotated[int, CameLater, UsedBy("model.norm", "group"), Field(ge=1)] = 8
    """norm = "group": groups of channels, of which each layer has a multiple."""
    depth: Annotated[
        Literal[8, 11, 13, 14, 16, 18, 19, 20, 32, 34, 44, 50, 56, 101, 152], UsedBy("model.name", *DEPTHS)
    ] = 18
    """resnet: layers, 18, 34, 50, 101 or 152 as torchvision has them, or 8, 14, 20, 32, 44 or 56 of 16 to 64 channels
    for images of 32 pixels. vgg: 11, 13, 16 (by default) or 19.
    """
    dropout: Annotated[float, Vector, Field(ge=0, lt=1)] = 0.0
    """Share of units dropped before each fully connected layer but the first (the only one in linear and resnet)."""
    dropout_at: Annotated[Literal["fc", "blocks", "all"], CameLater, UsedBy("model.name", *CONVOLVING)] = "fc"
    """convnet and vgg: where units are dropped: fc, as above; blocks: behind each block; all: both."""
    dropconnect: Annotated[float, Vector, CameLater, UsedBy("model.name", *MODELS), Field(ge=0, lt=1)] = 0.0
    """Share of weights dropped, anew in each step, in those fully connected layers before which dropout has its place.
    A net of MODULE:FUNCTION, torchvision:NAME or timm:NAME has none.
    """
    stochastic_depth: Annotated[float, Vector, CameLater, UsedBy("model.name", "resnet"), Field(ge=0, lt=1)] = 0.0
    """resnet: how often an image leaves the last residual block out; those before it as much less often as they are
    nearer to the images.
    """
    init: Annotated[str, AfterValidator(_init), INIT_FORMS, UsedBy("model.name", *MODELS, *LIBRARY_NETS)] = "he"
    """Initial weights: small:STD, lecun, lecun98, xavier, he, xavier-uniform, he-uniform, he-out, he-avg, orthogonal,
    lsuv or fixup. A net of MODULE:FUNCTION has its own. Of torchvision:NAME and timm:NAME it is the head's alone, by
    default small:0.01.
    """
    init_bias: Annotated[float, CameLater, UsedBy("model.name", *MODELS), Field(ge=0)] = 0.0
    """Standard deviation of the initial biases. A net of MODULE:FUNCTION, torchvision:NAME or timm:NAME has its own."""
    init_scale: Annotated[float, Vector, Field(gt=0)] = 1.0
    """Multiplies the initial weights; of torchvision:NAME and timm:NAME the head's alone."""

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, given: Any) -> Any:
        return {**defaults_of(given.get("name")), **given} if isinstance(given, dict) else given

    @field_validator("weights", mode="before")
    @classmethod
    def _none(cls, weights: Any) -> Any:
        """A choice of weights may have none among them."""
        return None if weights == NO_WEIGHTS else weights

    @model_validator(mode="after")
    def _one_origin(self) -> ModelConfig:
        if self.pretrained and self.weights is not None:
            raise ConfigError(
                f"model.pretrained = true and model.weights = {self.weights!r} name two beginnings.\n"
                "Allowed: one of them; the library's weights, or those of the file."
            )
        return self

    @model_validator(mode="after")
    def _fits_its_net(self) -> ModelConfig:
        if self.name in DEPTHS and self.depth not in DEPTHS[self.name]:
            raise ConfigError(
                f"model.depth = {self.depth} is not a {self.name}.\n"
                f"Allowed: {', '.join(map(str, DEPTHS[self.name]))} with model.name = {self.name!r}."
            )
        if self.batch_norm and self.norm not in (None, "batch"):
            raise ConfigError(
                f"model.batch_norm = true and model.norm = {self.norm!r} name two normalizations.\n"
                "Allowed: model.norm alone."
            )
        if self.name in NORMS and self.normalization not in NORMS[self.name]:
            raise ConfigError(
                f"model.norm = {self.norm!r} is of channels, of which model.name = {self.name!r} has none.\n"
                f"Allowed: {', '.join(NORMS[self.name])}."
            )
        if self.init in WHOLE_NET and is_library_net(self.name):
            raise ConfigError(
                f"model.init = {self.init!r} is not for the head of {self.name}.\n"
                f"Allowed: {', '.join(INIT_FORMS.forms + tuple(i for i in INIT_FORMS.values if i not in WHOLE_NET))}."
            )
        if self.init == "fixup" and not (self.name == "resnet" and self.normalization == "none"):
            raise ConfigError(
                f"model.init = 'fixup' is not for {self.name} with norm {self.normalization}.\n"
                "Allowed: model.name = 'resnet' with model.norm = 'none'."
            )
        return self

    @property
    def normalization(self) -> str:
        """What lies before each activation: none, batch, layer, instance or group."""
        if self.norm is not None:
            return self.norm
        return "batch" if self.batch_norm or self.name == "resnet" else "none"

    @property
    def pooling(self) -> str:
        """What ends a block of convolutions: max, average or none."""
        return {True: "max", False: "none"}[self.pool] if isinstance(self.pool, bool) else self.pool

    def per_block(self, key: str) -> tuple[int, ...]:
        """convs, kernel or stride of each block of a convnet.

        Raises:
            ConfigError: it lists another number of blocks than model.channels.
        """
        value = getattr(self, key)
        if not isinstance(value, tuple):
            return (value,) * len(self.channels)
        if len(value) != len(self.channels):
            raise ConfigError(
                f"model.{key} = {list(value)} is of {len(value)} blocks, model.channels = {list(self.channels)} of "
                f"{len(self.channels)}.\nAllowed: one number, or one for each block."
            )
        return value


def defaults_of(name: Any) -> dict[str, Any]:
    """What a net has where nothing is said, if that is not what all have."""
    if isinstance(name, str) and is_library_net(name):
        # A net of a library has one layer more, which knows nothing at first: the loss begins at ln C.
        return {"hidden": (), "init": "small:0.01"}
    return OWN_DEFAULTS.get(name, {}) if isinstance(name, str) else {}


def renamed(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys of a net with which to build one of another name: what one of OWN_DEFAULTS was not told goes away."""
    old = values["name"]
    names = {old, name} & OWN_DEFAULTS.keys()
    if old == name or not names:
        return dict(values)
    usual = {key: ModelConfig.model_fields[key].default for each in names for key in OWN_DEFAULTS[each]}
    usual |= defaults_of(old)
    return {key: value for key, value in values.items() if key not in usual or value != usual[key]}
