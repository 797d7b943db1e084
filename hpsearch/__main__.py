"""The command `hpsearch`: the one place that turns an error into a message and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 bad usage or config, 3 refused, 130 and 143 signals.

    What is imported stays to the end, so the garbage collector need not look through it, neither now nor at the end:
    a sixth of a short command's time.
    """
    gc.disable()
    try:
        try:
            _run()
        except KeyboardInterrupt as stop:  # before a command was there to hear of it
            sys.exit(getattr(stop, "exit_code", 130))
    except SystemExit as end:
        if end.code in (130, 143):
            # After a signal, threads may be anywhere in torch's C++, which aborts the interpreter's orderly end.
            _leave(int(end.code))
        if isinstance(end.code, int | None) and "torch" in sys.modules and not _threads_to_wait_for():
            # All is said, and taking torch's modules apart would take 0.3 s: of each worker, then of the command.
            from hpsearch.storage.database import close_databases

            close_databases()
            atexit._run_exitfuncs()
            _leave(end.code or 0)
        raise
    finally:
        gc.freeze()


def _leave(code: int) -> None:
    """End here and now; returns if the last output cannot be written, of which the interpreter's end tells."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _threads_to_wait_for() -> bool:
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def _run() -> None:
    from hpsearch.cli.app import app
    from hpsearch.errors import HpsearchError
    from hpsearch.logs import verbosity

    gc.freeze()
    gc.enable()
    try:
        app()
    except HpsearchError as error:
        if verbosity() > 0:
            raise
        print(f"{error.label}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if verbosity() > 0:
            raise
        from hpsearch.config.usercode import their_frames

        where = their_frames(error) or "This should not happen; -v shows where."
        print(f"error: {type(error).__name__}: {error}\n{where}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
