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


def test_errors_keep_their_exit_codes(hpsearch):
    (hpsearch.folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(waits=False))
    assert "registered" in hpsearch("status", code=1, PYTHONPATH=str(hpsearch.folder)).stderr
    assert "registered" in hpsearch("coarze", code=2, PYTHONPATH=str(hpsearch.folder)).stderr


def test_a_search_leaves_nothing_beside_its_database(searched):
    assert sorted(path.name for path in (searched.folder / "studies").glob("*db*")) == [
        "hpsearch.db",
        "hpsearch.db.lock",
    ]
