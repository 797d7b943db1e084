"""[model]: which net, and what it begins with."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from hpsearch.config.beginnings import NO_WEIGHTS
from hpsearch.config.data_sources import FUNCTION, NOT_YET, PREFIXES, is_user_code, not_yet
from hpsearch.config.fields import CameLater, Known, OneOrMore, Options, OptionsField, Positive, Section, UsedBy, Vector
from hpsearch.config.net_names import FORMS, LIBRARY_NETS, is_library_net
from hpsearch.errors import ConfigError

MODELS = ("linear", "mlp", "lenet", "convnet", "resnet")

MODEL_FORMS = Known(MODELS, (*LIBRARY_NETS, FUNCTION))
FREEZES = Known(("none", "all"), ("N (as 2), stages from the end that train",))
INIT_FORMS = Known(("lecun", "xavier", "he"), ("small:STD (as small:1e-4)",))


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
    """torchvision:NAME and timm:NAME: start from the weights in this file, safetensors or a state dict of torch.save;
    "none": from random ones.
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
