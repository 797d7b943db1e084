"""The head of a script: the values that were found and given, each with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpsearch.config import StudyConfig
from hpsearch.config.hyperparameters import resolve_path
from hpsearch.config.ranges import flag_text
from hpsearch.config.usage import is_used
from hpsearch.datasets.images import Images
from hpsearch.search.training_script.augmentation_part import mixing

OFF = {
    "accumulate": 1, "body_lr": 1.0, "layer_decay": 1.0, "warmup": 0.0, "clip_norm": 0.0, "reg": 0.0, "l1": 0.0,
    "weight_decay": 0.0, "label_smoothing": 0.0, "focal": 0.0, "ema": 0.0, "patience": None,
}  # fmt: skip
"""Values of [train] at which nothing is done, so that nothing is written."""
KEYS = (
    "epochs", "batch_size", "accumulate", "lr", "body_lr", "layer_decay", "warmup", "clip_norm", "momentum", "beta2",
    "reg", "l1", "weight_decay", "label_smoothing", "focal", "ema", "lr_decay", "lr_step", "lr_period",
    "lr_period_factor", "patience", "seed",
)  # fmt: skip
SAID = {
    "seed": "of initial weights, order and noise; another one gives another training",
    "reg": "L2: reg/2 * sum W^2 in the cost",
    "lr": "of the first epoch",
}
DTYPES = {"float64": "torch.float64"}


def constants(
    config: StudyConfig, params: Mapping[str, Any], ranges: Mapping[str, Any], study: str, images: Images
) -> str:
    """Their lines.

    Args:
        config: of the trial.
        params: those of the trial that were searched.
        ranges: of the search, as a study file has them.
        study: its name.
        images: of the trial.
    """
    paths = {resolve_path(name): name for name in params}
    searched, given, elsewhere = [], [], []
    for key in KEYS:
        value = getattr(config.train, key)
        if (key in OFF and value == OFF[key]) or not is_used(config, "train", key):
            continue
        path = f"train.{key}"
        if path in paths:
            searched.append(f"{key.upper()} = {value!r}  # searched in {_range(ranges.get(paths[path]))}")
        else:
            given.append(f"{key.upper()} = {value!r}" + (f"  # {SAID[key]}" if key in SAID else ""))
    if config.model.init_scale != 1:
        (searched if "model.init_scale" in paths else given).append(f"INIT_SCALE = {config.model.init_scale!r}")
    mix = mixing(config)
    if mix is not None:
        given.append(f"MIX_ALPHA = {mix.strength!r}  # {mix.kind.name}")
    known = {f"train.{key}" for key in KEYS} | {"model.init_scale"}
    elsewhere = [f"#   {path} = {params[name]!r}" for path, name in paths.items() if path not in known]
    return "\n".join(_lines(config, searched, given, elsewhere, study, images))


def _lines(
    config: StudyConfig, searched: list[str], given: list[str], elsewhere: list[str], study: str, images: Images
) -> Iterator[str]:
    if searched:
        yield f"# Found by the search {study}:"
        yield from searched
    if elsewhere:
        yield "# Also found; the images and the net below are made so:"
        yield from elsewhere
    yield ""
    yield "# Given:"
    yield from given
    if images.val_rows is None or config.data.limit is not None:
        yield f"SPLIT_SEED = {config.data.seed}  # draws the validation images"
    factor = config.data.scale / 255 if images.x.dtype == "uint8" else 1.0
    said = f"{config.data.scale:g} / 255  # white is {config.data.scale:g}" if factor != 1 else "1.0"
    yield f"FACTOR = {said}"
    yield f"DTYPE = {DTYPES.get(config.train.precision, 'torch.float32')}"
    yield 'DEVICE = "cuda" if torch.cuda.is_available() else "cpu"'
    yield 'WEIGHTS = "best.pt"  # where the weights of the best epoch go'


def _range(range_: Any) -> str:
    return "the study" if range_ is None else str(flag_text(range_))
