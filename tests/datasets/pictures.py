"""Folders of small image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hpsearch.config import DataConfig
from hpsearch.datasets.sources import Images, load_test, load_train


def picture(path: Path, color: int = 0, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(color).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def flat(root: Path, num: int = 10, mode: str = "RGB") -> Path:
    for label, name in enumerate(("cat", "dog", "owl")):
        for i in range(num):
            picture(root / name / f"{i}.png", color=100 * label + i, mode=mode, size=(10 + i, 12))
    return root


def load(root: Path, data_dir: Path, *, test: bool = False, **keys: int | str) -> Images:
    load_split = load_test if test else load_train
    return load_split(DataConfig(source=f"folder:{root}", **keys), data_dir)
