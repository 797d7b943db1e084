"""Nothing that is read, from a file or a database, becomes code: no module has the means, save the one that asks."""

import ast
from pathlib import Path

import pytest

import hpsearch

ROOT = Path(hpsearch.__file__).parent
UNPICKLERS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
IMPORTERS = {"config/usercode.py", "__init__.py"}  # the first asks who vouches for a name, the second has its own list
SAFE_LOADS = {
    "np.load": ("allow_pickle", False),
    "read_array": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}


def offences(source: str, name: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{name}: import {module}" for module in modules if module.split(".")[0] in UNPICKLERS]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("eval", "exec", "compile", "__import__"):
            found.append(f"{name}: {called}")
        is_literal = all(isinstance(argument, ast.Constant) for argument in node.args)  # code names it, no data
        if called.split(".")[-1] == "import_module" and name not in IMPORTERS and not is_literal:
            found.append(f"{name}: {called}")
        for ending, (keyword, value) in SAFE_LOADS.items():
            given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            if called.endswith(ending) and given.get(keyword) is not value:
                found.append(f"{name}: {called} without {keyword}={value}")
    return found


def test_no_module_unpickles_or_evaluates():
    assert [
        offence
        for path in sorted(ROOT.rglob("*.py"))
        for offence in offences(path.read_text(), path.relative_to(ROOT).as_posix())
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "eval(text)",
        "importlib.import_module(name)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path, map_location='cpu')",
    ],
)
def test_the_check_finds_what_it_looks_for(source):
    assert offences(source, "space/scale.py")
