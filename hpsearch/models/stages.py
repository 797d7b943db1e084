"""The parts of any net: its head, and the stages before it, each of which can have a rate of its own or stay as it is.

The head is the last layer with weights. The stages are the net's own: its children, and where one of them is nearly
all of it, as the blocks of a transformer are, its children in turn. Registration order is taken for the order in which
images go through.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

NEARLY_ALL = 0.8  # of the weights outside the head: a part that has more is no stage, but a list of them
FEW_STAGES = 4  # below it, the largest part is opened

Units = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class Stage:
    """Names of what belongs to it."""

    parameters: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """A net's stages, from the images on, and names of the parameters of its head."""

    stages: tuple[Stage, ...]
    head: tuple[str, ...]

    @property
    def depths(self) -> dict[str, int]:
        """Of each parameter: 0 in the head, 1 in the last stage, 2 in the one before."""
        depths = dict.fromkeys(self.head, 0)
        for depth, stage in enumerate(reversed(self.stages), start=1):
            depths |= dict.fromkeys(stage.parameters, depth)
        return depths


def set_head(net: nn.Module, names: tuple[str, ...]) -> None:
    """Say which modules are the head, where that is more than one layer."""
    net.head_names = names  # type: ignore[assignment]


def head_names(net: nn.Module) -> tuple[str, ...]:
    """Names of the modules of the head; empty where the net has no layer with weights of its own."""
    said: tuple[str, ...] | None = getattr(net, "head_names", None)
    if said is not None:
        return said
    layers = [name for name, module in net.named_modules() if _has_own_weights(module)]
    return (layers[-1],) if layers else ()


def parts_of(net: nn.Module) -> Parts:
    """The head and the stages of a net.

    What has no weights, as a normalization, belongs to the stage before it; parameters of none of its children, as
    positions of a transformer, to the first one.
    """
    heads = head_names(net)
    names = [name for name, _ in net.named_parameters()]
    head = tuple(name for name in names if _is_below(name, heads))
    grouped: list[Units] = []
    for unit in _units(net, heads):
        if _num_weights(unit[1]) or not grouped:
            grouped.append([unit])
        else:
            grouped[-1].append(unit)
    if len(grouped) > 1 and not any(_num_weights(module) for _, module in grouped[0]):
        grouped[:2] = [grouped[0] + grouped[1]]
    stages = []
    found = set(head)
    for units in grouped:
        unit_names = tuple(name for name, _ in units)
        own = tuple(name for name in names if name not in found and _is_below(name, unit_names))
        found |= {*own}
        stages.append(Stage(own, unit_names))
    if loose := tuple(name for name in names if name not in found):
        first = stages[0] if stages else Stage((), ())
        stages[:1] = [Stage((*loose, *first.parameters), first.modules)]
    return Parts(tuple(stages), head)


def _units(net: nn.Module, heads: Collection[str]) -> Units:
    """The children of the net that have parameters, opened as far as it takes, without the head."""
    units = _children("", net)
    while True:
        around = next((u for u in units if u[0] not in heads and any(h.startswith(f"{u[0]}.") for h in heads)), None)
        body = [unit for unit in units if unit[0] not in heads]
        opened = around or _to_open(body)
        if opened is None or opened == ("", net):
            return body
        place = units.index(opened)
        units[place : place + 1] = _children(*opened)


def _to_open(body: Units) -> tuple[str, nn.Module] | None:
    sizes = [_num_weights(module) for _, module in body]
    if not body or max(sizes) < 2:
        return None
    largest = sizes.index(max(sizes))
    few = sum(size > 0 for size in sizes) < FEW_STAGES
    worth = few or max(sizes) > NEARLY_ALL * sum(sizes)
    return body[largest] if worth and len(_children(*body[largest])) > 0 else None


def _children(name: str, module: nn.Module) -> Units:
    prefix = f"{name}." if name else ""
    return [
        (prefix + child, inner)
        for child, inner in module.named_children()
        if next(inner.parameters(), None) is not None
    ]


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.ndim >= 2 for parameter in module.parameters())


def _has_own_weights(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))


def _is_below(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
