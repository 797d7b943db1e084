"""`python -m benchmarks NAME [options]`."""

from __future__ import annotations

import importlib
import sys

from hpsearch.errors import HpsearchError

# Imported when one is run: all of them together take seconds.
BENCHMARKS = {
    "chaos": "chaos",
    "curves": "curves",
    "dashboard": "dashboard",
    "engines": "engines",
    "forecasts": "forecasts",
    "gpu": "gpu.command",
    "heads": "heads",
    "objective": "objective",
    "peers": "peers.comparison",
    "quality": "quality",
    "record": "search.recording",
    "scaling": "scaling",
    "search": "search.command",
    "surfaces": "surfaces",
    "throughput": "throughput",
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}} [options]")
    try:
        importlib.import_module(f"benchmarks.{BENCHMARKS[sys.argv[1]]}").main(sys.argv[2:])
    except HpsearchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
