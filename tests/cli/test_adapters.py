"""Each example of docs/adapters.md, searched over by the command that stands below it."""

import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/adapters.md").read_text()
EXAMPLES = dict(
    zip(
        ("sklearn", "skorch", "lightning", "transformers"),
        zip(
            re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL),
            re.findall(r"^\$ hpsearch (.*--objective .*)$", PAGE, re.MULTILINE),
            strict=True,
        ),
        strict=True,
    )
)


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=[pytest.mark.slow] if name != "sklearn" else []) for name in EXAMPLES]
)
def test_an_example_is_searched_by_its_command(library, hpsearch):
    pytest.importorskip(library)
    code, command = EXAMPLES[library]
    (hpsearch.folder / "train.py").write_text(code)
    hpsearch(*shlex.split(command))
    trials = hpsearch.json("export", "coarse")["trials"]
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    best = max(trials, key=lambda trial: trial["value"])
    assert best["value"] > 0.3
    assert best["intermediate"].keys() == {"1", "2", "3"}
