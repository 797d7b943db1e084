"""`python -m benchmarks NAME [options]`."""

from __future__ import annotations

import sys

from benchmarks import chaos, dashboard, engines, throughput

BENCHMARKS = {"chaos": chaos.main, "dashboard": dashboard.main, "engines": engines.main, "throughput": throughput.main}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}} [options]")
    BENCHMARKS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
