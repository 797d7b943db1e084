"""`python -m benchmarks.peers NAME FOLDER`: one peer's search, in the process that `benchmarks peers` times.

FOLDER holds work.json; what the trials gave is written to ended.json there.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.peers.work import Work

SEARCHES = {
    "optuna-dataloader": ("dataloader", "search"),
    "optuna-expert": ("expert", "search"),
    "optuna-expert-bfloat16": ("expert", "search"),
    "optuna-expert-compiled": ("expert", "search"),
    "ray-tune": ("ray_tune", "search"),
    "ray-tune-reuse": ("ray_tune", "search_with_reuse"),
}


def main(name: str, folder: Path) -> None:
    from benchmarks.peers.ended import as_plain

    module, function = SEARCHES[name]
    search = getattr(importlib.import_module(f"benchmarks.peers.{module}"), function)
    ended = search(Work.load(folder / "work.json"), folder)
    (folder / "ended.json").write_text(json.dumps(as_plain(ended)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
