"""What to change where a check finds something: keys that this net has, and nothing that is set already.

Each function gives options in the order in which to try them, in the words of a study file: `model.init = he`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpsearch.analysis.rate_verdicts import TOO_HIGH, RateVerdict
from hpsearch.config import ModelConfig, StudyConfig
from hpsearch.config.net_names import is_library_net
from hpsearch.config.schema.model import NORMS, RESNET_DEPTHS, SMALL_RESNET_DEPTHS, VGG_DEPTHS
from hpsearch.config.usercode import is_user_code

MAX_OPTIONS = 3  # in one sentence
WITH_ACTIVATION = ("mlp", "lenet", "convnet", "vgg")
BOUNDED = ("tanh", "sigmoid")
HALVING = ("relu", "leaky_relu", "elu", "gelu", "silu")  # which let half of the signal through, or more
BY_SIZE = ("lecun98", "lecun", "xavier", "he")  # the weights of mostly narrowing layers
AS_LARGE = {"xavier-uniform": "xavier", "he-uniform": "he", "he-out": "he", "he-avg": "he", "fixup": "he"}
FITTED = ("orthogonal", "lsuv")  # to the activation, or by images


def either(*options: str) -> str:
    """`a, b or c`: the first three of these that are not empty, none twice."""
    listed = list(dict.fromkeys(option for option in options if option))[:MAX_OPTIONS]
    return " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def scaled_inputs(config: StudyConfig) -> list[str]:
    """Inputs of mean 0 and std 1, unless they are."""
    return ["data.normalize = channel"] if config.data.normalize in ("none", "pixel") else []


def fitting_init(model: ModelConfig) -> str:
    """The initialization that keeps the signal for this net's activation."""
    halves = model.activation in HALVING or model.name not in WITH_ACTIVATION
    return "he" if halves else "xavier"


def smaller_weights(model: ModelConfig) -> list[str]:
    """At the beginning."""
    if is_user_code(model.name):
        return [f"smaller initial weights in {model.name}"]
    plain_scale = ["model.init_scale = 1"] if model.init_scale > 1 else []
    kind, _, std = model.init.partition(":")
    return [*plain_scale, f"model.init = small:{float(std) / 10 if kind == 'small' else 0.01:g}"]


def fitting_weights(model: ModelConfig, too_small: bool) -> list[str]:
    """Of the size that keeps the signal: a scale of 1, the fitting initialization, unless both are set."""
    if is_user_code(model.name):
        return [f"{'larger' if too_small else 'smaller'} initial weights in {model.name}"]
    options = []
    if model.init_scale < 1 if too_small else model.init_scale > 1:
        options.append("model.init_scale = 1")
    init, now = fitting_init(model), AS_LARGE.get(model.init, model.init)
    wrong = BY_SIZE[: BY_SIZE.index(init)] if too_small else BY_SIZE[BY_SIZE.index(init) + 1 :]
    if now in wrong or now not in (*BY_SIZE, *FITTED):
        options.append(f"model.init = {init}")
    return options


def another_scale(model: ModelConfig, too_small: bool) -> list[str]:
    """Of the initial weights, where nothing better is left to set."""
    if is_user_code(model.name):
        return []
    return [f"model.init_scale = {model.init_scale * (2 if too_small else 0.5):g}"]


def help_through_layers(model: ModelConfig) -> list[str]:
    """What lets a signal through many layers, whatever the weights."""
    if is_user_code(model.name):
        return [f"normalization layers or fewer layers in {model.name}"]
    options = []
    if model.name in NORMS and model.normalization == "none" and model.init != "fixup":
        options.append("model.norm = batch")
    if model.name in WITH_ACTIVATION and model.activation in BOUNDED:
        options.append("model.activation = relu")
    if model.name == "mlp" and len(model.hidden) > 1:
        options.append("fewer layers (model.hidden)")
    if model.name == "vgg" and model.depth > VGG_DEPTHS[0]:
        options.append("fewer layers (model.depth)")
    if model.name == "convnet" and sum(model.per_block("convs")) + len(model.hidden) > 1:
        options.append("fewer layers (model.channels, model.convs, model.hidden)")
    return options


def more_capacity(model: ModelConfig) -> str:
    """A larger net; empty for the deepest one of its kind."""
    if is_library_net(model.name) and model.freeze != "none":
        return "more that trains (model.freeze, model.hidden)"
    larger = {
        "linear": "model.name = mlp",
        "mlp": "model.hidden",
        "lenet": "model.name = convnet",
        "convnet": "model.channels, model.hidden",
        "vgg": _deeper(model, VGG_DEPTHS),
        "resnet": _deeper(model, RESNET_DEPTHS if model.depth in RESNET_DEPTHS else SMALL_RESNET_DEPTHS),
    }.get(model.name, f"more units in {model.name}")
    return f"more capacity ({larger})" if larger else ""


def _deeper(model: ModelConfig, depths: Sequence[int]) -> str:
    deeper = next((depth for depth in depths if depth > model.depth), None)
    return f"model.depth = {deeper}" if deeper else ""


def other_training(config: StudyConfig) -> list[str]:
    """Another beginning, another update rule."""
    name = config.model.name
    init = f"other initial weights in {name}" if is_user_code(name) else "another model.init"
    if config.train.loss == "squared" and config.model.init in (*AS_LARGE, "he", "lsuv") and not is_user_code(name):
        init = "model.init = xavier"  # whose first scores are near the targets, see docs/log.md
    optimizer = "adam" if config.train.optimizer in ("sgd", "momentum", "nesterov") else "sgd"
    return [init, f"train.optimizer = {optimizer}"]


def activation_advice(verdict: str, config: StudyConfig) -> str:
    """What to do about hidden layers of this verdict; empty where there is nothing to do."""
    match verdict:
        case "dead":
            return f"nothing of the images reaches the classes: {_clearer_signal(config, too_small=True)}"
        case "collapsing":
            late = "the signal fades from layer to layer, so learning starts late"
            return f"{late}: {_clearer_signal(config, too_small=True)}"
        case "growing":
            wild = "the signal grows from layer to layer, so the first steps are wild"
            return f"{wild}: {_clearer_signal(config, too_small=False)}"
        case "saturated":
            return f"gradients vanish where units are saturated: {_clearer_signal(config, too_small=False)}"
        case "dead units":
            return f"a unit that is 0 for every image learns nothing: {either(*_livelier_units(config))}"
    return ""


def _clearer_signal(config: StudyConfig, too_small: bool) -> str:
    """The weights that fit first; another scale last, where those are set."""
    model, weights = config.model, fitting_weights(config.model, too_small)
    inputs = [] if too_small else scaled_inputs(config)
    scale = [] if weights else another_scale(model, too_small)
    return either(*weights, *inputs, *help_through_layers(model), *scale)


def _livelier_units(config: StudyConfig) -> list[str]:
    """Their share does not depend on the size of the weights: inputs to both sides of 0, or no flat side at all."""
    model = config.model
    layers = help_through_layers(model)
    gelu = ["model.activation = gelu"] if model.name in WITH_ACTIVATION and model.activation == "relu" else []
    return [*scaled_inputs(config), *layers[:1], *gelu, *layers[1:], "a low lr, which lets no more of them die"]


def rate_advice(verdicts: Sequence[tuple[float, RateVerdict]], config: StudyConfig) -> str:
    """What to do where no learning rate goes down; `verdicts` are of (rate, what it did), rates ascending."""
    lowest, verdict = verdicts[0]
    if verdict in TOO_HIGH:
        smaller = either(*scaled_inputs(config), *smaller_weights(config.model))
        return f"even {lowest:.0e} is too high a rate: {smaller}"
    return either("more steps (--steps)", *other_training(config))
