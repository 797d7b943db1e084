"""Which images are looked at, in which order, and how many at a time."""

from pathlib import Path

import pytest

from hpsearch.errors import ConfigError
from hpsearch.search.prediction import _batches, find_images


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batches_are_bounded_and_arrays_stand_alone(size):
    paths = [
        Path(name)
        for name in ["a.jpg", "b.jpg", "c.jpg", "x.npz", "d.jpg", "y.NPZ", "z.npz", "e.jpg", "f.jpg", "g.jpg", "h.jpg"]
    ]
    batches = list(_batches(paths, size))
    assert [path for batch in batches for path in batch] == paths
    assert max(map(len, batches)) <= size
    for batch in batches:
        assert len(batch) == 1 or not any(path.suffix.lower() == ".npz" for path in batch)
    assert len(batches) == {1: 11, 2: 8, 3: 7, 100: 6}[size]


def test_folders_stand_for_their_images_in_the_order_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.JPG", "b/sub/1.png", "b/.hidden.png", "b/notes.txt", "a.jpg", "x.npz", "folder:odd/1.png"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = find_images(["npz:x.npz", "folder:b", "a.jpg", "folder:odd", "b/notes.txt"])
    shown = ["x.npz", "b/2.JPG", "b/sub/1.png", "a.jpg", "folder:odd/1.png", "b/notes.txt"]
    assert [str(path) for path in found.paths] == shown
    assert found.left_out == {".txt": 1}
    assert found.has_files
    assert not find_images(["x.npz"]).has_files
    for missing in ("c", "npz:c.npz", "folder:c"):
        with pytest.raises(ConfigError, match="is not there"):
            find_images([missing])
