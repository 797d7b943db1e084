"""Nets of libraries as model.name names them: `torchvision:NAME` and `timm:NAME`. Names alone; nothing is imported.

A prefix is never a module, so such a name is no code of the user's and needs nobody's trust.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TORCHVISION, TIMM = "torchvision:NAME", "timm:NAME"
LIBRARY_NETS = (TORCHVISION, TIMM)
"""Forms of model.name, as they are shown."""

FORMS = {form.partition(":")[0]: form for form in LIBRARY_NETS}


def library_form(name: str) -> str | None:
    """TORCHVISION or TIMM for the name of a library's net; None for any other."""
    library, sign, net = name.partition(":")
    return FORMS.get(library) if sign and re.fullmatch(r"\w[\w.\-]*", net, re.ASCII) else None


def is_library_net(name: str) -> bool:
    """Whether a library has the net, if it has one of that name; see `models.library_nets`."""
    return library_form(name) is not None


def has_given_weights(model: Mapping[str, Any]) -> bool:
    """Whether a plain [model] is a library's net that starts from the weights of a training before."""
    name = model.get("name")
    given = model.get("pretrained") is True or isinstance(model.get("weights"), str)
    return isinstance(name, str) and is_library_net(name) and given


def trains_given_body(model: Mapping[str, Any]) -> bool:
    """Whether more than the head of such a net trains, by a plain [model] alone."""
    return has_given_weights(model) and model.get("freeze", "none") != "all"
