"""Which engine trains a pack."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor, nn

from hpsearch.config.net_names import is_library_net
from hpsearch.config.usercode import is_user_code
from hpsearch.errors import EngineError
from hpsearch.logs import get_logger
from hpsearch.training.engine import StackedEngine
from hpsearch.training.fused.engine import FusedEngine
from hpsearch.training.graph import GraphEngine
from hpsearch.training.loop import LoopEngine
from hpsearch.training.state import PackState
from hpsearch.training.vmap import VmapEngine

logger = get_logger(__name__)

ENGINES: dict[str, type[StackedEngine]] = {
    "loop": LoopEngine,
    "vmap": VmapEngine,
    "fused": FusedEngine,
    "graph": GraphEngine,
}
PREFERENCE = ("fused", "vmap", "loop")  # each one trains all that those before it do, more slowly


def compared_engines(device: torch.device) -> tuple[str, ...]:
    """Those that a search is timed with, where it is long enough for that."""
    return ("fused", "vmap", "graph", "loop") if device.type == "cuda" else PREFERENCE


def default_engine(model: str, device: torch.device) -> str:
    """The engine that was faster where it was measured.

    On one CPU core a step of LeNet took 5 ms a trial with fused, 9 with loop and 15 with vmap, whose convolutions and
    pools are not in channels-last memory; a convnet 32, 40 and more. On an H100 a step of 100 LeNets took 5.6 ms with
    fused and 13.8 with vmap, of 32 convnets 8.1 and 10.0 (torch 2.11, an older version of these engines). A ResNet
    fills a GPU alone, and a VGG a CPU: a step of 3 VGG-11 with batch normalization, on 16 images of 32 pixels, took a
    CPU core 0.9 s with loop, 1.1 with vmap and 1.2 with fused.
    """
    if model in ("linear", "mlp") or (device.type in ("cpu", "cuda") and model in ("lenet", "convnet")):
        return "fused"
    if device.type == "cuda" and model not in ("vgg", "resnet"):
        return "vmap"
    return "loop"


def make_engine(
    name: str,
    model: str,
    module: nn.Module,
    state: PackState,
    sample: tuple[Tensor, Tensor],
    *,
    falls_back: bool = True,
    on_disk: bool = False,
) -> StackedEngine:
    """The engine of that name, tried on a sample (x_BCHW, y_B) first.

    With `falls_back`, a warning says why another one is taken: `auto` goes along PREFERENCE, and for `graph`, which
    takes no net that waits for its device, nor images that stay `on_disk`, there is loop. Draws from the global random
    state.

    Raises:
        EngineError: there is no such engine, or it cannot train this net, or not on this device.
    """
    if name != "auto" and name not in ENGINES:
        raise EngineError(f"run.engine = {name!r} is not an engine.\nAllowed: auto, {', '.join(ENGINES)}.")
    chosen = default_engine(model, sample[0].device) if name == "auto" else name
    if name == "auto" and state.train.precision == "float16":
        chosen = "loop"  # the others do not scale losses
    # A net of the user's may flatten with `view`, which takes no channels-last tensor.
    channels_last = not is_user_code(model)
    if is_library_net(model):
        channels_last = _takes_channels_last(module, state, sample)
    loop = partial(LoopEngine, module, state, channels_last=channels_last)
    candidates: tuple[str, ...] = (chosen,)
    if name == "auto":
        candidates = PREFERENCE[PREFERENCE.index(chosen) :]
    elif name == "graph":
        candidates = ("graph", "loop")
    if chosen == "graph" and on_disk:
        why = "graph gathers its batches on the device, and these images stay on disk (run.memory)"
        if not falls_back:
            raise EngineError(f"{why}.\nAllowed: run.engine = auto, loop, vmap, fused.")
        logger.warning("%s, so loop trains", why)
        candidates = ("loop",)
    if not falls_back:
        candidates = candidates[:1]
    for candidate, following in zip_longest(candidates, candidates[1:]):
        if candidate == "loop":
            break
        if candidate == "graph":  # a device that records nothing is the user's to change, so this error is none below
            engine: StackedEngine = GraphEngine(module, state, channels_last=channels_last)
        try:
            if candidate != "graph":
                engine = ENGINES[candidate](module, state)
            module.train()
            engine.gradients(*sample, noise_seed=0)
            return engine
        except (RuntimeError, EngineError) as error:
            if following is None:
                raise EngineError(
                    f"engine {candidate} cannot train model {model}: {error}\nAllowed: run.engine = loop."
                ) from error
            logger.warning("%s cannot train model %s, so %s does: %s", candidate, model, following, error)
    if state.train.precision == "float16":
        _refuse_unless_it_runs(loop(), sample)
    return loop()


def _refuse_unless_it_runs(engine: StackedEngine, sample: tuple[Tensor, Tensor]) -> None:
    """Not every device has every operator in float16: say so before the training."""
    try:
        engine.module.train()
        engine.gradients(*sample, noise_seed=0)
    except RuntimeError as error:
        raise EngineError(
            f"train.precision = 'float16' does not run on {sample[0].device.type} with this net: {error}\n"
            "Allowed: float32, float64, bfloat16."
        ) from error


def _takes_channels_last(module: nn.Module, state: PackState, sample: tuple[Tensor, Tensor]) -> bool:
    """Whether the net never looks at its outputs by a view of another order, as ShuffleNet does."""
    module.train()
    try:
        LoopEngine(module, state).gradients(*sample, noise_seed=0)
        return True
    except RuntimeError as error:
        logger.debug("images are not channels last: %s", error)
        return False
