"""The command `hpsearch`: the one place that turns an error into a message and an exit code."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 bad usage or config, 3 refused, 130 and 143 signals."""
    try:
        _run()
    except SystemExit as end:
        if end.code in (130, 143):
            # After a signal, threads may be anywhere in torch's C++, which aborts the interpreter's orderly end.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code))
        raise


def _run() -> None:
    from hpsearch.cli.app import app
    from hpsearch.cli.options import traceback_wanted
    from hpsearch.errors import HpsearchError

    try:
        app()
    except HpsearchError as error:
        if traceback_wanted():
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if traceback_wanted():
            raise
        from hpsearch.config.usercode import their_frames

        where = their_frames(error) or "This should not happen; -v shows where."
        print(f"error: {type(error).__name__}: {error}\n{where}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
