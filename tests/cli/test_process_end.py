"""A command that is done leaves at once, with everything written that has to be."""

import pytest

SITECUSTOMIZE = """
import atexit, sys, threading, types

class Module(types.ModuleType):
    def __del__(self):
        sys.stderr.write("taken apart\\n")

sys.modules["torch"] = Module("torch")
atexit.register(sys.stderr.write, "registered\\n")
if {waits}:
    threading.Thread(target=lambda: threading.main_thread().join() or sys.stderr.write("waited for\\n")).start()
"""


@pytest.mark.parametrize(
    ("waits", "told"), [(False, ["registered"]), (True, ["waited for", "registered", "taken apart"])]
)
def test_torch_is_not_taken_apart_but_what_is_registered_is_done(hpsearch, waits, told):
    (hpsearch.folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(waits=waits))
    done = hpsearch("--version", PYTHONPATH=str(hpsearch.folder))
    assert done.stdout.strip()
    assert done.stderr.splitlines() == told


INTERRUPTED = """
import os, signal, sys

class Finder:
    def find_spec(name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
"""


def test_ctrl_c_while_the_command_line_is_imported_prints_no_traceback(hpsearch):
    (hpsearch.folder / "sitecustomize.py").write_text(INTERRUPTED)
    done = hpsearch("status", code=130, interpreter=True, PYTHONPATH=str(hpsearch.folder))
    assert (done.stdout, done.stderr) == ("", "")


def test_errors_keep_their_exit_codes(hpsearch):
    (hpsearch.folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(waits=False))
    for command, code in (("status", 1), ("coarze", 2)):
        told = hpsearch(command, code=code, PYTHONPATH=str(hpsearch.folder)).stderr
        assert "registered" in told
        assert "taken apart" not in told


@pytest.mark.slow
def test_a_search_leaves_nothing_beside_its_database(searched):
    assert sorted(path.name for path in (searched.folder / "studies").glob("*db*")) == [
        "hpsearch.db",
        "hpsearch.db.lock",
    ]
