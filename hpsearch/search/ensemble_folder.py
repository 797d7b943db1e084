"""An ensemble in a folder that needs no hpsearch: weights of each net, a description, a script that averages them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpsearch.analysis.records import stage_record
from hpsearch.config.concise import SECTIONS, concise
from hpsearch.config.net_folder import ENSEMBLE, MEAN, SCRIPT, STD
from hpsearch.config.template import as_toml
from hpsearch.search.ensemble import Ensemble, JudgedMember
from hpsearch.search.ensemble_script import ensemble_script, kinds_of_nets
from hpsearch.search.weights_folder import in_quotes, recipe_of, shape_and_recipe, weights_file, write_files

FILES = (ENSEMBLE, SCRIPT)
MEMBER = "member-{}.safetensors"


def write_ensemble(ensemble: Ensemble, folder: Path) -> list[Path]:
    """Write the nets that are averaged to a folder, which is made if it is not there; the files, the script last.

    Raises:
        ConfigError: they cannot be written, or a net cannot be spelt out.
    """
    chosen = ensemble.chosen
    nets = [each.member.net for each in chosen]
    title = _title(ensemble)
    script = ensemble_script(nets, title, files=recipe_of(nets[0]) is not None)
    contents = {MEMBER.format(i): weights_file(net) for i, net in enumerate(nets, start=1)}
    contents |= {
        ENSEMBLE: f"# {title}\n\n{as_toml(_description(ensemble, chosen))}".encode(errors="replace"),
        SCRIPT: script.encode(errors="replace"),
    }
    paths = write_files(folder, contents)
    for path in folder.iterdir():  # of a larger ensemble that this one replaces
        if re.fullmatch(MEMBER.format(r"\d+"), path.name) and path not in paths:
            path.unlink()
    return paths


def _title(ensemble: Ensemble) -> str:
    metric, names = ensemble.metric, ", ".join(map(in_quotes, ensemble.studies))
    nets = "snapshots" if ensemble.is_of_snapshots else "nets"
    return f"Ensemble of {len(ensemble.chosen)} {nets} of {names}, {metric.label} {metric.text(ensemble.val.value)}."


def _description(ensemble: Ensemble, chosen: Sequence[JudgedMember]) -> dict[str, dict[str, Any]]:
    """What the script reads in [classes], [images] and [members.N], and where all of it comes from."""
    nets = [each.member.net for each in chosen]
    pre, first = nets[0].preprocessing, nets[0].stored
    images = shape_and_recipe(pre.shape, recipe_of(nets[0]))
    images["normalized"] = (
        f"(x * factor - mean) / std, by each net's own, which are with its weights as {MEAN} and {STD}"
    )
    tables: dict[str, dict[str, Any]] = {
        "ensemble": {
            "studies": list(ensemble.studies),
            "metric": ensemble.metric.name,
            "greedy": ensemble.is_greedy,
            "snapshots": ensemble.is_of_snapshots,
            ensemble.metric.column: ensemble.val.value,
        },
        "classes": {"names": list(pre.class_names)},
        "images": images,
    }
    for i, (each, (kind, _)) in enumerate(zip(chosen, kinds_of_nets(nets), strict=True), start=1):
        member, stored = each.member, each.member.wanted.stored
        tables[f"members.{i}"] = {
            "file": MEMBER.format(i),
            "net": kind,
            "weight": each.weight,
            "factor": member.net.preprocessing.normalization.factor,
            "study": stored.study.name,
            "number": stored.trial.number,
            "seed": member.wanted.seed,
            "bagged": member.wanted.bagged,
            "epoch": member.epoch,
            ensemble.metric.column: each.value,
            "params": dict(stored.trial.params),
        }
        config = concise(stored.config)
        tables |= {f"members.{i}.{section}": config[section] for section in SECTIONS}
    return {**tables, "versions": dict(stage_record(first.study).versions)}
