"""Images in blocks with checksums: only what is whole is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpsearch.datasets import blocks
from hpsearch.datasets.blocks import PartFile, are_whole, images_per_block

SHAPE = (10, 1, 3, 5)
IMAGES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
PER_BLOCK = 4


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_IMAGES", PER_BLOCK)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as found:
        yield found


def write(part: PartFile, num_blocks: int = 3) -> None:
    """So many blocks in all."""
    for start in range(PER_BLOCK * len(part.sums), min(PER_BLOCK * num_blocks, len(IMAGES)), PER_BLOCK):
        part.append(IMAGES[start : start + PER_BLOCK].tobytes())


@pytest.mark.parametrize(
    ("shape", "num"), [((1, 3, 5), 4), ((3, 2**12, 2**12), 1), ((3, 2**14, 2**14), 1), ((3, 2**11, 2**11), 4)]
)
def test_a_block_is_bounded_in_bytes(shape: tuple[int, int, int], num: int) -> None:
    assert images_per_block(shape) == num


@pytest.mark.parametrize("num_blocks", [0, 1, 2, 3])
def test_whoever_goes_on_keeps_what_is_there(tmp_path: Path, pool: Executor, num_blocks: int) -> None:
    path = tmp_path / "a.npy"
    with PartFile(path) as part:
        part.begin({"recipe": 7}, SHAPE)
        write(part, num_blocks)
        assert PartFile(path).num_done == PER_BLOCK * num_blocks
    assert not path.exists()
    with PartFile(path) as part:
        described = part.described()
        assert described is not None
        assert described["recipe"] == 7
        part.go_on(SHAPE)
        assert len(part.sums) == num_blocks
        write(part)
        part.finish()
    np.testing.assert_array_equal(np.load(path), IMAGES)
    assert are_whole(path, SHAPE, part.sums, pool)
    assert list(tmp_path.iterdir()) == [path]


@given(st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_damaged_on_the_way_is_written_again(tmp_path: Path, pool: Executor, data: st.DataObject) -> None:
    path = tmp_path / "a.npy"
    with PartFile(path) as part:
        part.begin({}, SHAPE)
        write(part, data.draw(st.integers(0, 3)))
    for beside in (part._array, part._lines):
        content = bytearray(beside.read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content)))]
        if content and data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        beside.write_bytes(bytes(content))
    with PartFile(path) as part:
        if part.described() is None:
            part.begin({}, SHAPE)
        else:
            part.go_on(SHAPE)
        write(part)
        part.finish()
    np.testing.assert_array_equal(np.load(path), IMAGES)
    assert are_whole(path, SHAPE, part.sums, pool)


@pytest.mark.parametrize("damage", ["cut", "longer", "a bit", "the header", "gone"])
def test_a_file_that_is_not_as_it_was_written_is_found(tmp_path: Path, pool: Executor, damage: str) -> None:
    path = tmp_path / "a.npy"
    with PartFile(path) as part:
        part.begin({}, SHAPE)
        write(part)
        part.finish()
    assert are_whole(path, SHAPE, part.sums, pool)
    assert not are_whole(path, (9, *SHAPE[1:]), part.sums, pool)
    assert not are_whole(path, SHAPE, part.sums[:-1], pool)
    content = bytearray(path.read_bytes())
    match damage:
        case "cut":
            content.pop()
        case "longer":
            content.append(0)
        case "a bit":
            content[-20] ^= 1
        case "the header":
            content[3] ^= 1
    path.write_bytes(bytes(content))
    if damage == "gone":
        path.unlink()
    assert not are_whole(path, SHAPE, part.sums, pool)
