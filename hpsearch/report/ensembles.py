"""The section on ensembles: of each stage the last one that was made of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpsearch.analysis.kept_ensembles import KeptEnsemble, members_table
from hpsearch.config.metric import Metric
from hpsearch.report.history import Table
from hpsearch.report.stage import StageData
from hpsearch.wording import count_text, value_text


@dataclass(frozen=True)
class EnsembleSection:
    """What the page shows of one ensemble."""

    study: str
    sentences: tuple[str, ...]
    table: Table
    """Of its nets."""


def ensembles(stages: Sequence[StageData]) -> list[EnsembleSection]:
    """Those that the stages keep."""
    return [_section(stage, kept) for stage in stages if (kept := stage.record.ensemble) is not None]


def _section(stage: StageData, kept: KeptEnsemble) -> EnsembleSection:
    metric = stage.evidence.metric
    columns, rows = members_table(kept.members, metric.column)
    return EnsembleSection(stage.name, _sentences(metric, kept), Table(columns, tuple(rows), columns[1:]))


def _sentences(metric: Metric, kept: KeptEnsemble) -> tuple[str, ...]:
    num, chosen = len(kept.members), len(kept.chosen)
    greedy = kept.said.get("greedy") is True
    how = "averaged" if not greedy else f"of {num}, chosen and weighed by what each adds, averaged"
    bagged = ", each trained on its own draw of the training images" if all(m.bagged for m in kept.chosen) else ""
    kind = "net" if kept.said.get("snapshots") is not True else "snapshot"
    ends = ", each taken where a cycle of the learning rate ended" if kind == "snapshot" and not greedy else ""
    sentences = [f"{count_text(chosen, kind)} {how}{bagged}{ends}."]
    for images in ("validation", "test"):
        if said := _compared(metric, kept.said.get(images), images):
            sentences.append(said)
    if greedy and kept.said.get("test") is None:
        sentences.append("The weights were chosen on these validation images, so this gain is too high.")
    return tuple(sentences)


def _compared(metric: Metric, found: Any, images: str) -> str | None:
    """`On 288 validation images val_acc 0.9931, the best single net 0.9896: +0.0035, 95% from -0.0035 to +0.0104.`"""
    match found:
        case {
            "value": int() | float() as value,
            "single": int() | float() as single,
            "difference": {"gain": int() | float() as gain, "num_images": int(num)} as difference,
        }:
            column = metric.column if images == "validation" else metric.test_column
            text = f"On {num} {images} images {column} {value_text(value)}, the best single net {value_text(single)}"
            return f"{text}: a gain of {gain:+.4f}{_interval(difference)}."
    return None


def _interval(difference: Mapping[str, Any]) -> str:
    match difference:
        case {"low": int() | float() as low, "high": int() | float() as high}:
            return f", 95% from {low:+.4f} to {high:+.4f} (paired bootstrap over images)"
    return ""
