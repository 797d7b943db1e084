"""What is worth a word about a folder of images: short plain sentences, from counts alone."""

from __future__ import annotations

from collections.abc import Mapping

from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.listing import HEIF

MAX_KINDS = 4  # of files left out that are named


def size_note(recipe: Recipe, given: bool) -> str:
    """How large the images are, and what becomes of them; `given` by data.size or taken from them."""
    smallest, largest = (f"{width}x{height}" for width, height in (recipe.smallest, recipe.largest))
    what = f"{largest} images" if smallest == largest else f"images of {smallest} to {largest}"
    new = f"{recipe.size}x{recipe.size}"
    if smallest == largest == new:
        return f"{what}, as they are"
    if smallest == largest and len(set(recipe.largest)) == 1:
        verb = "resized"
    else:
        verb = "cropped in the middle" if recipe.crop else "squeezed"
    return f"{what} {verb} to {new}" + ("" if given else "; data.size sets another size")


def depth_note(recipe: Recipe) -> str:
    """How images of more than 8 bits become bytes; empty where there are none."""
    if not recipe.num_deep:
        return ""
    what = f"{recipe.num_deep:,} training images have more than 8 bits"
    return f"{what}: {recipe.black:,} ... {recipe.white:,}, the values in use, become 0 ... 255"


def on_disk_note(num_images: int, image_bytes: int) -> str:
    """Images are more than memory holds."""
    size = num_images * image_bytes
    shown = f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"
    return f"images stay on disk: {num_images:,}, of {shown}; run.memory says how many bytes memory holds"


def folds_note(num_folds: int, num_images: int) -> list[str]:
    """Cross-validation; nothing without."""
    if num_folds == 1:
        return []
    return [f"{num_folds} folds of {num_images:,} images: a trial trains on each, and its value is the mean"]


def groups_note(num: int) -> str:
    """Images belong together; empty where they do not."""
    return f"{num:,} groups of images, each in one split alone" if num else ""


def columns_note(name: str, columns: Mapping[str, str | None]) -> str:
    """Which columns of a table are taken for what, by what they are taken for."""
    return f"columns of {name}: " + ", ".join(f"{kind} = {column}" for kind, column in columns.items() if column)


def hold_out_note(folder: str, num_images: int, num_without: int) -> str:
    """The images of a validation folder are the hold-out, or those that a table says."""
    of = f" of {folder}/" if folder else " that are given"
    images = f"the {num_images:,} images{of}" if num_images > 1 else f"the one image{of}"
    lacking = f", which lacks {num_without} of the classes" if num_without else ""
    return f"validation: {images}{lacking}; data.val draws none"


def test_share_note(folder: str) -> str:
    """The test split is a share of the training images; `folder` that of these, empty where it is the whole."""
    of = f" of {folder}/" if folder else ""
    return f"20% of each class{of} set aside as the test split"


def left_out_note(left_out: Mapping[str, int]) -> str:
    """`12 files of other kinds left out (.heic 10, none 2)`, and what would read them; empty where there are none."""
    if not left_out:
        return ""
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{kind} {num:,}" for kind, num in kinds[:MAX_KINDS]]
    if rest := sum(num for _, num in kinds[MAX_KINDS:]):
        named.append(f"others {rest:,}")
    total = sum(left_out.values())
    files = "1 file of another kind" if total == 1 else f"{total:,} files of other kinds"
    hint = "; pip install pillow-heif reads .heic" if HEIF & left_out.keys() else ""
    return f"{files} left out ({', '.join(named)}){hint}"


def loose_note(num: int) -> str:
    """Images that are in no class; empty where there are none."""
    if not num:
        return ""
    return f"{'1 image' if num == 1 else f'{num:,} images'} outside the class folders left out"
