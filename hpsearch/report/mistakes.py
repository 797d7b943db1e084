"""The section on what the best trial gets wrong: which classes it takes for which, its worst images, augmentation.

It needs the weights and the training images, and a report is made without them, too: it says then what is missing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpsearch.report.album import Album, Shown
from hpsearch.report.best_net import BestNet, Missing, or_why
from hpsearch.report.figures.confusion import _confusion_info, plot_confusion
from hpsearch.report.stage import StageData
from hpsearch.wording import count_text, value_text

if TYPE_CHECKING:
    from hpsearch.datasets.images import Array
    from hpsearch.search.mistakes import Mistakes, WrongImage
    from hpsearch.search.trained_net import TrainedNet

SIDE = 96  # pixels of a picture, at most
LONGEST_NAME = 40  # characters
CUT = "…\u2060"  # no line ends behind it
MOST_LISTED = 500  # mistakes, about 40 kB
EXACT = 48  # pixels up to which one is kept exactly, which takes 9 kB at most


@dataclass(frozen=True)
class Picture:
    """One of a gallery: a data URI, and lines below it."""

    source: str
    alt: str
    lines: tuple[str, ...] = ()
    is_small: bool = False
    """Whether its pixels are to be seen as squares."""
    name: str = ""
    """Of the image; its end is shown, the whole where one points at it."""

    @property
    def short_name(self) -> str:
        """The end of the name, which tells more than its beginning."""
        return self.name if len(self.name) <= LONGEST_NAME else f"{CUT}{self.name[-LONGEST_NAME:]}"


@dataclass(frozen=True)
class Download:
    """A file inside the page: a data URI, the name it is saved under, what the link says."""

    source: str
    name: str
    words: str


@dataclass(frozen=True)
class MistakesSection:
    """What the page shows; where there is nothing to show, `lead` says why."""

    lead: str
    confusion: Shown | None = None
    worst: tuple[Picture, ...] = ()
    worst_note: str = ""
    listed: Download | None = None
    augmented: tuple[tuple[Picture, Picture], ...] = ()
    augmented_note: str = ""


def mistakes_section(album: Album, stage: StageData, best: BestNet | Missing) -> MistakesSection:
    """The section about the best trial of a stage."""
    made = or_why("mistakes", lambda: _section(album, stage, best)) if isinstance(best, BestNet) else best
    return MistakesSection(made.why) if isinstance(made, Missing) else made


def _section(album: Album, stage: StageData, best: BestNet) -> MistakesSection:
    from hpsearch.search.mistakes import augmented, find_mistakes

    net, data = best.net, best.data
    found = find_mistakes(net, data)
    augment = ", ".join(data.augment)
    confusion = _confusion_info(found.confusion, found.class_names)
    few = len(confusion.names) < confusion.num_classes
    note = "Coloured by the share of the images of a true class; without colour, on the diagonal, what is right." + (
        f" The {len(confusion.names)} of {confusion.num_classes} classes with the most mistakes." if few else ""
    )
    pairs = augmented(net, data)
    return MistakesSection(
        _lead(net, found),
        album.add(f"{stage.name}-confusion", plot_confusion(confusion), "What is taken for what", note),
        tuple(
            _picture(
                picture,
                f"{wrong.true}, taken for {wrong.predicted}",
                (wrong.true, f"→ {wrong.predicted} {wrong.probability:.0%}"),
                wrong.name if isinstance(wrong.name, str) else f"image {wrong.name}",
            )
            for picture, wrong in zip(found.pictures, found.wrong, strict=False)
        ),
        "Validation images whose true class the net thinks least likely: what they are → what they are taken for, and "
        "how sure the net is. Images with a wrong label turn up here, too.",
        _listed(stage.name, found.wrong),
        tuple((_picture(before, "as it is"), _picture(after, "augmented")) for before, after in pairs),
        f"{augment}: training images as they are and, below, as the trial saw them once.",
    )


def _lead(net: TrainedNet, found: Mistakes) -> str:
    from hpsearch.search.trained_net import threshold_text

    number, study = net.stored.trial.number, net.stored.study.name
    which = f"all {found.num_val:,}" if found.num_seen == found.num_val else f"{found.num_seen:,} of {found.num_val:,}"
    right, said = found.num_right, threshold_text(net.threshold, net.preprocessing.class_names)
    return (
        f"Trial {number} of {study}, with the weights that are kept, on {which} validation images: {right:,} right "
        f"({value_text(right / found.num_seen)}), {count_text(found.num_seen - right, 'mistake')}."
        + (f" The likelier class counts here; predictions use a threshold: {said}." if said else "")
    )


def _listed(study: str, wrong: Sequence[WrongImage]) -> Download | None:
    from hpsearch.search.mistakes import mistakes_csv

    if not wrong:
        return None
    encoded = base64.b64encode(mistakes_csv(wrong[:MOST_LISTED])).decode()
    which = f"The worst {MOST_LISTED} of {len(wrong):,}" if len(wrong) > MOST_LISTED else f"All {len(wrong)}"
    return Download(f"data:text/csv;charset=utf-8;base64,{encoded}", f"{study}-mistakes.csv", f"{which} as CSV")


def _picture(pixels_HWC: Array, alt: str, lines: tuple[str, ...] = (), name: str = "") -> Picture:
    """As PNG if it is small, else as a JPEG of a few kB."""
    from PIL import Image

    image, out = Image.fromarray(pixels_HWC), io.BytesIO()
    kind = "png" if max(image.size) <= EXACT else "jpeg"
    image.thumbnail((SIDE, SIDE))
    image.save(out, kind, **({"optimize": True} if kind == "png" else {"quality": 85}))
    source = f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
    return Picture(source, alt, lines, kind == "png", name)
