"""What data.source is, decided in one place: prefixes are paths, never code."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import DataConfig, load_settings
from hpsearch.config.data_sources import (
    NOT_YET,
    PREFIXES,
    SOURCES,
    CsvPath,
    FolderPath,
    Named,
    NpzPath,
    UserFunction,
    is_user_code,
    parse_source,
)
from hpsearch.config.net_names import FORMS
from hpsearch.config.usercode import names_in, trust
from hpsearch.datasets.embedded import Digits
from hpsearch.datasets.folder import Folder
from hpsearch.datasets.sources import DOWNLOADABLE, open_source
from hpsearch.datasets.tabled import Tabled
from hpsearch.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "source"),
    [
        *((name, Named(name)) for name in SOURCES),
        ("folder:photos", FolderPath("photos")),
        ("folder:photos/", FolderPath("photos")),
        ("folder:./photos", FolderPath("photos")),
        ("folder:a//b/./c/", FolderPath("a/b/c")),
        ("folder:../photos", FolderPath("../photos")),
        ("folder:a/../photos", FolderPath("a/../photos")),  # a may be a link
        ("folder:.", FolderPath(".")),
        ("folder:/", FolderPath("/")),
        ("folder:~/photos/", FolderPath("~/photos")),
        ("folder:my photos", FolderPath("my photos")),
        ("folder:folder:x", FolderPath("folder:x")),
        ("Folder:photos", FolderPath("photos")),
        ("csv:./photos.csv", CsvPath("photos.csv")),
        ("CSV:photos", CsvPath("photos")),
        ("npz:images", NpzPath("images")),
        ("npz:./images.npz", NpzPath("images.npz")),
        ("mydata:make", UserFunction("mydata:make")),
        ("my.data:make", UserFunction("my.data:make")),
        ("folders:make", UserFunction("folders:make")),
        ("torchvision.datasets:make", UserFunction("torchvision.datasets:make")),
    ],
)
def test_what_a_source_is(text, source):
    assert parse_source(text) == source
    assert parse_source(str(source)) == source
    assert DataConfig(source=text).source == str(source)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "allowed: digits, .*npz:PATH, MODULE:FUNCTION"),
        ("photos", "folder:PATH"),
        ("folder", "folder:PATH"),
        ("folder:", "the path is missing"),
        ("npz: ", "the path is missing"),
        ("a.b:c.d", "MODULE:FUNCTION"),
        *((f"{prefix}:x", "not there yet; MODULE:FUNCTION can return them") for prefix in NOT_YET),
    ],
)
def test_what_is_no_source(text, match):
    with pytest.raises(ValueError, match=match):
        parse_source(text)


@given(
    st.sampled_from(["folder", "csv", "npz"]),
    st.text("ab/.~ :", min_size=1).filter(lambda path: path.strip() and str(PurePosixPath(path)).strip()),
)
def test_a_path_has_one_spelling_and_is_never_code(prefix, path):
    source = parse_source(f"{prefix}:{path}")
    assert parse_source(str(source)) == source
    assert names_in({"data": {"source": f"{prefix}:{path}"}}) == set()
    assert source.path.startswith("/") == path.startswith("/")
    assert source.path.split("/").count("..") == path.split("/").count("..")


@pytest.mark.parametrize("prefix", [*PREFIXES, "Folder", "NPZ"])
def test_no_prefix_is_code_whatever_follows_and_whoever_names_it(prefix):
    name = f"{prefix}:photos"
    assert not is_user_code(name)
    values = {"data": {"source": name}, "model": {"name": name}, "space": {"model.name": {"choice": ["mlp", name]}}}
    assert names_in(values) == set()
    for trusted in (name, prefix):
        with pytest.raises(ConfigError, match="need not be trusted"):
            trust(trusted)
    if prefix in FORMS:  # there are such nets, if the library has one of that name
        assert load_settings(sets=[f"model.name={name}"]).study.model.name == name
        return
    with pytest.raises(ConfigError, match=rf"model\.name = '{name}' is not allowed"):
        load_settings(sets=[f"model.name={name}"])


def test_code_is_named_by_its_key_wherever_it_stands():
    assert names_in({"data": {"source": "mydata:make"}, "fine": {"set": {"model.name": "mynets:small"}}}) == {
        "mydata:make",
        "mynets:small",
    }


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("photos", "Did you mean 'folder:photos'?"),
        ("images.npz", "Did you mean 'npz:images.npz'?"),
        ("photos.csv", "Did you mean 'csv:photos.csv'?"),
        ("cifar11", "Did you mean 'cifar10'?"),
    ],
)
def test_a_prefix_that_is_missing_is_found(tmp_path, monkeypatch, source, hint):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_settings(flags={"data.source": source})
    assert hint in str(caught.value)


def test_each_source_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()
    assert isinstance(open_source(DataConfig()), Digits)
    for name in DOWNLOADABLE:
        assert isinstance(open_source(DataConfig(source=name)), DOWNLOADABLE[name])
    folder = open_source(DataConfig(source="folder:~/photos"))
    assert isinstance(folder, Folder)
    assert folder.path == tmp_path / "photos"
    with pytest.raises(DataError, match=rf"was looked for in {tmp_path}/fotos\.\nA relative path starts at"):
        open_source(DataConfig(source="folder:fotos"))
    (tmp_path / "photos.csv").write_text("path,label\n")
    assert isinstance(open_source(DataConfig(source="csv:photos.csv")), Tabled)
    (tmp_path / "scans.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"There is a file scans\.csv: say 'csv:~/scans\.csv'"):
        open_source(DataConfig(source="csv:~/scans"))
    with pytest.raises(DataError, match=r"/nowhere cannot be read: .*\nCheck the path"):
        open_source(DataConfig(source="npz:/nowhere"))
