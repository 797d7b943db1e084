"""What a search does before its first step: what it imports, and what it says of that with -v."""

import gc
import json
import re
import subprocess
import sys

import pytest

from hpsearch.cli.importing import importing

# Each takes a twentieth of a second or more, and a small search on digits needs none of them.
NOT_NEEDED = (
    *(
        "alembic",
        "jinja2",
        "mako",
        "numba",
        "optuna",
        "PIL",
        "plotly",
        "psycopg",
        "pygments",
        "ray",
        "scipy",
        "skimage",
    ),
    *("sklearn", "sqlalchemy.orm", "sympy", "torch._dynamo", "torch._inductor", "torchvision"),
)
SECONDS = r"\d+\.\d\d s"


@pytest.mark.slow
def test_a_search_imports_what_it_needs(tmp_path):
    code = (
        "import sys, hpsearch.__main__ as command\n"
        "command._leave = lambda code: None\n"
        "sys.argv = 'hpsearch coarse --trials 4 --epochs 1 --skip-checks -q --device cpu'.split()\n"
        "try: command.main()\nexcept SystemExit as end: assert not end.code\n"
        f"print([name for name in {NOT_NEEDED!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_no_garbage_is_looked_for_while_it_imports(monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [False]


@pytest.mark.parametrize(
    "arguments",
    [
        ("coarse", "--trials", "4", "--epochs", "1"),
        ("train", "--epochs", "1"),
        ("run", "--max-stages", "1", "--set", "coarse.trials=4", "--set", "coarse.epochs=1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_phases_of_a_start_are_told_once_on_stderr(hpsearch, arguments):
    done = hpsearch(*arguments, "-c", "tiny.toml", "-v", "--json")
    [told] = phases_in(done.stderr)
    assert re.fullmatch(rf"start {SECONDS} · .*database {SECONDS} · .*first epoch at {SECONDS}", told)
    json.loads(done.stdout)  # nothing else
    parts = [float(part.split()[-2]) for part in told.split(" · ")]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.005 * len(parts) + 0.02)


def test_without_v_and_with_q_nothing_is_told(hpsearch):
    for other in ((), ("-q", "-v")):
        done = hpsearch("train", "-c", "tiny.toml", "--epochs", "1", "--name", f"train{len(other)}", *other)
        assert phases_in(done.stderr) == []


def test_each_process_tells_of_its_own_start(hpsearch):
    done = hpsearch("coarse", "-c", "tiny.toml", "--workers", "2", "-v", "--json")
    told = phases_in(done.stderr)
    assert sum("all workers started at" in line for line in told) == 1
    assert 1 <= sum("first epoch at" in line and "imports" not in line for line in told) <= 2


def phases_in(text):
    return [line.partition("phase   ")[2] for line in text.splitlines() if line.startswith("INFO hpsearch.phases: ")]
