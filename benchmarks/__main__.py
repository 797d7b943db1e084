"""`python -m benchmarks NAME [options]`."""

from __future__ import annotations

import sys

from benchmarks import (
    chaos,
    curves,
    dashboard,
    engines,
    forecasts,
    heads,
    objective,
    quality,
    scaling,
    surfaces,
    throughput,
)
from benchmarks.gpu import command as gpu
from benchmarks.peers import comparison
from benchmarks.search import command as search
from benchmarks.search import recording
from hpsearch.errors import HpsearchError

BENCHMARKS = {
    "chaos": chaos.main,
    "curves": curves.main,
    "dashboard": dashboard.main,
    "engines": engines.main,
    "forecasts": forecasts.main,
    "gpu": gpu.main,
    "heads": heads.main,
    "objective": objective.main,
    "peers": comparison.main,
    "quality": quality.main,
    "record": recording.main,
    "scaling": scaling.main,
    "search": search.main,
    "surfaces": surfaces.main,
    "throughput": throughput.main,
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}} [options]")
    try:
        BENCHMARKS[sys.argv[1]](sys.argv[2:])
    except HpsearchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
