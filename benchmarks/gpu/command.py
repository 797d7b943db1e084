"""What one GPU makes of searches: the reference search, LeNet, ResNet-18 and nets of a user's, each beside a peer.

Images are made up, with CIFAR-10's shape; nothing is downloaded. All ways of one row are timed in turns. The JSON is
written after each row, and what cannot be measured is a row that says why. On a CPU the sizes are tiny: whether it
runs, no figures.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, pages
from benchmarks.gpu.rows import Row, all_rows
from benchmarks.gpu.turns import free_all, in_words
from benchmarks.gpu.work import SIZES, Bench
from hpsearch.errors import ConfigError
from hpsearch.runtime import num_cores, resolve_device, set_threads

SECONDS = 230.0  # the command is to end within 4 minutes


def main(arguments: list[str]) -> None:
    begun = time.perf_counter()
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which no row is begun")
    parser.add_argument("--json", metavar="FILE", help="written after each row")
    parser.add_argument("--only", metavar="ROW,...", help=f"some of {', '.join(row.name for row in all_rows())}")
    parser.add_argument("--sizes", choices=SIZES, help="full on a GPU, smoke on a CPU")
    given = parser.parse_args(arguments)
    device = resolve_device(given.device)
    given.sizes = given.sizes or ("smoke" if device.type == "cpu" else "full")
    rows = choose_rows(given.only)
    # Tiny sizes on a busy machine would wait for a second thread most of the time.
    set_threads(1 if given.sizes == "smoke" else num_cores())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    found = {
        "benchmark": "gpu", "command": shlex.join(["python", "-m", "benchmarks", "gpu", *arguments]),
        "machine": {**machine.about("triton"), **machine.about_gpu(device)}, "sizes": given.sizes, "rows": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gpu") as folder:
        bench = Bench(device, SIZES[given.sizes], given.seconds, Path(folder))
        if given.sizes == "full":
            peaks = machine.Peaks(str(device))
            peaks.measure()
            found["peaks"] = peaks.as_dict()
            del peaks
        run(bench, rows, found, given)
    found["seconds"] = time.perf_counter() - begun
    found["machine"]["load_at_end"] = machine.load()
    _write(found, given.json)
    parts = ["\n".join(_words(found)), table(found["rows"]).as_text(), "\n".join(remarks(found["rows"]))]
    print("\n\n".join(filter(None, parts)))


def choose_rows(only: str | None) -> list[Row]:
    """Those of that name, or of a name that begins with it.

    Raises:
        ConfigError: there is none.
    """
    rows = all_rows()
    if only is None:
        return rows
    wanted = only.split(",")
    for name in wanted:
        if not any(_is_meant(row, name) for row in rows):
            raise ConfigError(f"--only {name} is not a row.\nAllowed: {', '.join(row.name for row in rows)}.")
    return [row for row in rows if any(_is_meant(row, name) for name in wanted)]


def _is_meant(row: Row, name: str) -> bool:
    return row.name == name or row.name.startswith(f"{name}-")


def run(bench: Bench, rows: Sequence[Row], found: dict[str, Any], given: argparse.Namespace) -> None:
    """Row by row into `found`; a GPU that answers no more is left to a new process, with the rows that are left."""
    for number, row in enumerate(rows):
        lines = measure(bench, row)
        found["rows"] += [{"what": row.what, **line} for line in lines]
        _write(found, given.json)
        print(f"{row.name}: {max(0.0, bench.left()):.0f} s left", file=sys.stderr, flush=True)
        if is_lost(bench.device):
            found["rows"] += in_new_process(rows[number + 1 :], bench, given)
            _write(found, given.json)
            return


def measure(bench: Bench, row: Row) -> list[dict[str, Any]]:
    """Its lines, or the one that says why there are none."""
    nothing: dict[str, Any] = {"row": row.name, "way": "", "repetitions": 0, "notes": []}
    if bench.left() <= row.needs(bench):
        needed = f", {row.needs(bench):.0f} needed" if row.needs(bench) else ""
        words = f"left out with {max(0.0, bench.left()):.0f} s left{needed}; see --only and --seconds"
        return [{**nothing, "refused": words}]
    try:
        return row.measure(bench)
    except (Exception, SystemExit) as error:
        return [{**nothing, "refused": in_words(error)}]
    finally:
        free_all()


def is_lost(device: torch.device) -> bool:
    """Whether an error has left nothing to do for this process on its GPU, as an illegal access does."""
    if device.type != "cuda":
        return False
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError:
        return True
    return False


def in_new_process(rows: Sequence[Row], bench: Bench, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The same benchmark of these rows alone, in what is left of the time."""
    if not rows:
        return []
    file = bench.folder / "rest.json"
    command = [sys.executable, "-m", "benchmarks", "gpu", "--device", given.device, "--sizes", given.sizes]
    command += ["--seconds", f"{bench.left():.0f}", "--only", ",".join(row.name for row in rows), "--json", str(file)]
    print("the GPU answers no more; the other rows go on in a new process", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, check=False)
    measured = json.loads(file.read_text())["rows"] if file.exists() else []
    missing = [row.name for row in rows if row.name not in {line["row"] for line in measured}]
    refused = f"the process that should measure it ended with {done.returncode}"
    return measured + [{"row": name, "way": "", "repetitions": 0, "refused": refused, "notes": []} for name in missing]


def _write(found: dict[str, Any], file: str | None) -> None:
    if file:
        pages.write(found, "", file, None)


def table(rows: Sequence[dict[str, Any]]) -> pages.Table:
    """One line for each way that was measured."""
    head = ["row", "way", "of one", "width", "ms", "fastest", "slowest", "n", "us/trial/step", "times peer", "search s"]
    return pages.Table([*head, "GiB", ""], [_cells(row) for row in rows if row["repetitions"]])


def _cells(row: dict[str, Any]) -> list[str]:
    def cell(name: str, form: str, factor: float = 1.0) -> str:
        return format(factor * row[name], form) if row.get(name) is not None else "-"

    marks = [mark for mark, name in (("default", "is_default"), ("best", "is_best")) if row.get(name)]
    return [
        row["row"], f"{row['way']} {row['precision']}", row.get("unit", "-"), str(row["width"]),
        *(cell(name, ",.3f", 1e3) for name in ("median", "fastest", "slowest")), str(row["repetitions"]),
        cell("us_per_trial_and_step", ",.1f"), cell("times_as_fast", ".2f"), cell("seconds_of_search", ".2f"),
        cell("peak_reserved_gib", ".1f"), ", ".join(marks),
    ]  # fmt: skip


def remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is to be said of a row, and why others are not in the table; once, where several ways have the same."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        way = f"{row['way']} {row.get('precision', '')} {row.get('width', '')}".strip()
        for words in [*([row["refused"]] if row["refused"] else []), *row["notes"]]:
            said.setdefault((row["row"], words), []).append(way)
    whose = {key: f"{key[0]} ({', '.join(ways)})" if any(ways) else key[0] for key, ways in said.items()}
    return [f"{whose[key]}: {key[1]}" for key in said]


def _words(found: dict[str, Any]) -> list[str]:
    host = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    lines = [
        f"{host['gpu'] or host['processor']} ({host['device']}), {host['cores']} cores; {versions}",
        f"CUDA {host['cuda']}, driver {host['driver']}; float32 products {host['float32_products']}, "
        f"TF32 in convolutions {host['tf32_in_convolutions']}; {found['seconds']:.0f} s",
    ]
    if found["sizes"] == "smoke":
        lines.append("sizes of a smoke run: it shows that everything runs; its numbers mean nothing")
    return lines
