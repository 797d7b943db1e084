"""The section on the inside of the best trial's net: a verdict for each look, then the figures behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpsearch.analysis.layer_updates import LayerUpdate, judge_updates, updates_finding
from hpsearch.report.album import Album, Shown
from hpsearch.report.best_net import BestNet, Missing, or_why
from hpsearch.report.figures.inside import plot_picture
from hpsearch.report.figures.layers import (
    MOST_PAIRS,
    _histograms_info,
    evenly,
    feature_maps,
    picture_of_numbers,
    plot_correlations,
    plot_gradients,
    plot_histograms,
    share_small,
)
from hpsearch.report.stage import StageData

if TYPE_CHECKING:
    from hpsearch.search.inside import Inside
    from hpsearch.training.unit_statistics import LayerStatistics

MOST_ROWS = 16  # layers in the table, evenly spaced
MAPPED = 2  # convolutions whose feature maps are shown
COLUMNS = ("layer", "units", "mean", "std", "at 0", "at the ends", "dead", "ignore the image", "pairs alike")

DEAD_ON = " Dead are units that are 0 for each of the training images that the silent units above were counted on."
UPDATE_COLUMNS = ("layer", "last step", "at the middle rate", "verdict")


@dataclass(frozen=True)
class InsideSection:
    """What the page shows; where there is nothing to show, `lead` says why."""

    lead: str
    findings: tuple[tuple[str, str, str, str], ...] = ()
    """What, verdict, found, what to do."""
    columns: tuple[str, ...] = COLUMNS
    layers: tuple[tuple[str, ...], ...] = ()
    layers_note: str = ""
    update_columns: tuple[str, ...] = UPDATE_COLUMNS
    updates: tuple[tuple[str, ...], ...] = ()
    updates_note: str = ""
    figures: tuple[Shown, ...] = ()


def inside_section(album: Album, stage: StageData, best: BestNet | Missing) -> InsideSection:
    """The section about the best trial of a stage."""
    made = or_why("the inside", lambda: _section(album, stage, best)) if isinstance(best, BestNet) else best
    return InsideSection(made.why) if isinstance(made, Missing) else made


def _section(album: Album, stage: StageData, best: BestNet) -> InsideSection:
    from hpsearch.search.inside import look

    seen = look(best.net, best.data)
    number = best.net.stored.trial.number
    updates = judge_updates(best.net.updates, [epoch.lr for epoch in stage.epochs.get(number, ())])
    findings = [*seen.findings, *([found] if (found := updates_finding(updates)) is not None else [])]
    rows = evenly(seen.layers, MOST_ROWS)
    few = f" {len(rows)} of {len(seen.layers)} layers." if len(rows) < len(seen.layers) else ""
    return InsideSection(
        f"Trial {number} of {stage.name}, with the weights that are kept, on {seen.num_images} validation images.",
        tuple(
            (each.what, "ok" if each.ok else "look", each.text, each.advice)
            for each in sorted(findings, key=lambda each: each.ok)
        ),
        COLUMNS,
        tuple(map(_row, rows)),
        "What follows each activation function (each layer, in a net whose activations are no modules), over images, "
        f"units and places.{few}{DEAD_ON if best.net.silent else ''}",
        UPDATE_COLUMNS,
        tuple(map(_update_row, evenly(updates, MOST_ROWS))),
        "Length of a step over that of the weights that it changed: in the last step of the training, and what that "
        "makes at the middle one of the epochs' rates. Usual is about 1e-3, a tenth to ten times of it is ok.",
        tuple(_figures(album, stage.name, seen)),
    )


def _row(layer: LayerStatistics) -> tuple[str, ...]:
    return (
        layer.name,
        f"{layer.num_units:,}",
        f"{layer.mean:.3g}",
        f"{layer.std:.3g}",
        f"{layer.zeros:.0%}",
        "–" if layer.at_ends is None else f"{layer.at_ends:.0%}",
        "–" if layer.num_dead is None else f"{layer.num_dead}",
        f"{layer.num_ignoring}",
        f"{layer.share_alike:.1%}",
    )


def _update_row(layer: LayerUpdate) -> tuple[str, ...]:
    return layer.name, f"{layer.last:.1e}", f"{layer.usual:.1e}", layer.verdict


def _figures(album: Album, study: str, seen: Inside) -> list[Shown]:
    shown = []
    if (histograms := _histograms_info(seen.layers)) is not None:
        note = "Each layer's outputs, the first on top; heights are roots of counts, so that rare values are seen."
        shown.append(album.add(f"{study}-outputs", plot_histograms(histograms), "Outputs of the layers", note))
    if seen.end:
        note = "Root mean square over the weights of a layer, of the gradient of the loss, the first layer on top."
        shown.append(
            album.add(f"{study}-gradients", plot_gradients(seen.start, seen.end), "Gradients of the layers", note)
        )
    alike = max(seen.layers, key=lambda layer: layer.share_alike, default=None)
    if alike is not None and len(alike.correlations) > 1:
        note = f"{alike.name}, whose units are the most alike: the size of their correlation over images. {_few(alike)}"
        shown.append(
            album.add(f"{study}-units", plot_correlations(alike.correlations), "Do units say the same?", note.strip())
        )
    if seen.filters is not None and len(seen.filters) > 1:
        note = "The size of the correlation of the first layer's weights, filter by filter."
        shown.append(
            album.add(f"{study}-filter-pairs", plot_correlations(seen.filters), "Are first filters alike?", note)
        )
    mapped = [layer for layer in seen.layers if layer.places is not None and min(layer.places.shape[1:]) > 1]
    for layer in mapped[:MAPPED]:
        assert layer.places is not None
        picture = feature_maps(layer.places, seen.picture)
        name = seen.name if isinstance(seen.name, str) else f"image {seen.name}"
        note = f"First {name}, then what units of {layer.name} make of it, each on its own scale."
        shown.append(album.add(f"{study}-maps", plot_picture(picture), f"Feature maps of {layer.name}", note))
    if seen.layers and (responses := seen.layers[-1].responses) is not None:
        note = (
            "A column for each image, by class, a row for each unit, black for 0: even stripes across are units that "
            "ignore the image."
        )
        picture = picture_of_numbers(responses.T)
        shown.append(album.add(f"{study}-responses", plot_picture(picture), f"Units of {seen.layers[-1].name}", note))
    if seen.first_linear is not None:
        name, weights = seen.first_linear
        note = (
            f"A row for each of {len(weights)} units, a column for each of {weights.shape[1]:,} inputs, black for 0. "
            f"{share_small(weights):.1%} of the weights are below a hundredth of the largest."
        )
        shown.append(
            album.add(f"{study}-weights", plot_picture(picture_of_numbers(weights)), f"Weights of {name}", note)
        )
    return shown


def _few(layer: LayerStatistics) -> str:
    num = len(layer.correlations)
    return f"{min(num, MOST_PAIRS)} of {layer.num_units} units." if min(num, MOST_PAIRS) < layer.num_units else ""
