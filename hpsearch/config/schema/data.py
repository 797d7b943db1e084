"""[data]: which images, how they are split and prepared."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from hpsearch.config.augmentations import AUGMENTATIONS, one_mix, parse_augmentation
from hpsearch.config.data_sources import CSV, FOLDER, FUNCTION, NPZ, REGEX, SOURCES, parse_source
from hpsearch.config.fields import (
    MAX_SEED,
    CameLater,
    Known,
    OneOrMore,
    Options,
    OptionsField,
    Positive,
    Section,
    UsedBy,
)

SOURCE_FORMS = Known(SOURCES, (FOLDER, CSV, NPZ, FUNCTION))


class SyntheticConfig(Section):
    """Learnable class templates plus noise: for tests and benchmarks."""

    shape: tuple[Positive, Positive, Positive] = (3, 32, 32)
    """Channels, height, width."""
    classes: int = Field(10, ge=2)
    """Number of classes."""
    train: int = Field(1000, ge=2)
    """Images in the training split, hold-out included."""
    test: int = Field(200, ge=1)
    """Images in the test split."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of the noise; the templates have 1."""


def _source(source: str) -> str:
    return str(parse_source(source))


def _augmentation(kind: str) -> str:
    return str(parse_augmentation(kind))


class CsvConfig(Section):
    """Columns of a table of images; without them, those that are called as usual: a line says which."""

    path: str | None = None
    """Files; relative ones start at the table's folder."""
    label: str | None = None
    """Classes."""
    split: str | None = None
    """train, val or test; "none" for no such column."""
    group: str | None = None
    """Patients, scenes, as data.group; "none" for no such column."""


def _group(group: str | None) -> str | None:
    if group is None or not group.startswith(REGEX):
        return group
    try:
        if re.compile(group.removeprefix(REGEX)).groups == 1:
            return group
        why = "one group in parentheses"
    except (re.error, RecursionError, OverflowError) as error:
        why = f"an expression that can be read, so not with {error}"
    raise ValueError(f"allowed: {REGEX} with {why}, as regex:^(.+)_")


class DataConfig(Section):
    """Which images, how they are split and prepared."""

    source: Annotated[str, AfterValidator(_source), SOURCE_FORMS] = "digits"
    """digits, faces, cifar10, cifar100, mnist, fashion-mnist, svhn, synthetic, folder:PATH, csv:PATH, npz:PATH,
    MODULE:FUNCTION.
    """
    options: Annotated[OptionsField, CameLater, UsedBy("data.source", FUNCTION)] = Options()
    """Keyword arguments of the function, where source is MODULE:FUNCTION."""
    val: float = Field(0.2, gt=0)
    """Validation images held out of the training split: a share below 1, or a count. A folder's val/ goes before."""
    normalize: Literal["channel", "pixel", "feature", "none", "pretrained"] = "channel"
    """channel: mean and std per channel; pixel: subtract the mean image; feature: and divide by each pixel's std;
    pretrained, the default where a net has weights already: mean and std that its library trained with.
    """
    scale: float = Field(1.0, gt=0)
    """Value of a white pixel of images stored as bytes, before normalization: 1, or 255 to keep the bytes.

    White in files of 16 bits is the greatest value of the training images.
    """
    augment: Annotated[
        tuple[Annotated[str, AfterValidator(_augmentation), AUGMENTATIONS], ...],
        OneOrMore,
        AfterValidator(one_mix),
        Field(examples=[["hflip", "crop:4"]]),
    ] = ()
    """hflip, crop:N (shift by up to N pixels, zeros come in), rotate:DEG, cutout:N, mixup:ALPHA and more, in the order
    in which they are applied; docs/images.md has the table. data.augment.rotate is the strength as a hyperparameter.
    MODULE:FUNCTION is one of yours.
    """
    size: Annotated[int | None, UsedBy("data.source", FOLDER, CSV), Field(ge=1)] = None
    """Height and width of the images of a folder or csv; without it their median short side, from 8 to 64, or that with
    which a pretrained net was trained.
    """
    resize: Annotated[Literal["squeeze", "crop"], CameLater, UsedBy("data.source", FOLDER, CSV)] = "squeeze"
    """Of a folder or csv: squeeze, the whole image; or crop, the square in its middle, in training and evaluation."""
    csv: Annotated[CsvConfig, CameLater, UsedBy("data.source", CSV, FOLDER)] = Field(default_factory=CsvConfig)
    """Columns of a csv file, or of the metadata.csv of a folder."""
    group: Annotated[str | None, CameLater, UsedBy("data.source", FOLDER, CSV, NPZ), AfterValidator(_group)] = None
    """What stays in one split, as a patient: a column of a csv, an array of an npz; "regex:^(.+)_" in a folder."""
    sampling: Annotated[Literal["shuffled", "balanced"], CameLater] = "shuffled"
    """shuffled: each training image once an epoch; balanced: as many of each class, rare ones several times."""
    folds: Annotated[int | None, CameLater, Field(ge=2)] = None
    """Cross-validation: each trial trains once on each of so many folds, and its value is the mean; or "none". data.val
    holds nothing out then.
    """
    limit: int | None = Field(None, ge=2)
    """Use only this many images of the training split, stratified; a folder's val/ stays whole."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Draws the hold-out; apart from train.seed, so that trials of different seeds see the same split."""
    synthetic: Annotated[SyntheticConfig, UsedBy("data.source", "synthetic")] = Field(default_factory=SyntheticConfig)
    """How many images of which size, where source is synthetic."""

    @field_validator("folds", mode="before")
    @classmethod
    def _none(cls, folds: Any) -> Any:
        """TOML has no null, but a stage may want no folds where the others have some."""
        return None if folds == "none" else folds

    @field_validator("val")
    @classmethod
    def _share_or_count(cls, val: float) -> float:
        if val >= 1 and val != int(val):
            raise ValueError("allowed: a share below 1, or a whole number of images")
        return val
