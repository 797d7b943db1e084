from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.config import DataConfig, SyntheticConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.memory import SharedMemory
from hpsearch.datasets.normalization import fit
from hpsearch.datasets.preparing import prepare, prepare_test
from hpsearch.datasets.sources import load_train
from hpsearch.datasets.splits import divide
from hpsearch.errors import ConfigError, DataError

CPU = torch.device("cpu")


def synthetic(num: int = 101, **keys: object) -> DataConfig:
    size = SyntheticConfig(shape=(1, 2, 3), classes=3, train=num, test=30)
    return DataConfig.model_validate({"source": "synthetic", "synthetic": size, "val": 10, **keys})


def bytes_npz(path: Path, seed: int = 0, height: int = 4) -> DataConfig:
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        x_train=rng.integers(0, 256, (60, 3, height, 4), dtype=np.uint8),
        y_train=np.arange(60) % 3,
        x_test=rng.integers(0, 256, (6, 3, height, 4), dtype=np.uint8),
        y_test=np.arange(6) % 3,
    )
    return DataConfig(source=f"npz:{path}", val=12, normalize="pixel")


@pytest.mark.parametrize("kind", ["pixel", "feature", "channel", "none"])
@pytest.mark.parametrize("stored", ["bytes", "floats"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_parts_are_normalized_by_the_training_part(
    kind: str, stored: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    config = bytes_npz(tmp_path / "a.npz") if stored == "bytes" else synthetic()
    config = config.model_copy(update={"normalize": kind, "scale": 255.0})
    data = prepare(config, CPU, dtype)
    images = load_train(config)
    train, val = divide(config, images.y)
    normalization = fit(kind, images.x[train], 255.0)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert data.x_train_NCHW.dtype == (torch.uint8 if stored == "bytes" else dtype)
    assert data.train_images().dtype == data.x_val_NCHW.dtype == dtype
    np.testing.assert_allclose(data.train_images(), normalization.apply(images.x[train]), atol=tolerance)
    np.testing.assert_allclose(data.x_val_NCHW, normalization.apply(images.x[val]), atol=tolerance)
    assert data.y_train_N.tolist() == images.y[train].tolist()
    assert data.y_val_N.dtype == torch.int64
    x_test, y_test = prepare_test(config, data)
    assert x_test.dtype == dtype
    assert len(x_test) == len(y_test) == (6 if stored == "bytes" else 30)


@pytest.mark.parametrize("kind", ["pixel", "feature", "channel", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_in_memory_give_the_same_numbers_as_floats(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    config = bytes_npz(tmp_path / "a.npz").model_copy(update={"normalize": kind, "augment": ("hflip", "crop:1")})
    data = prepare(config, CPU, dtype)
    images = load_train(config)
    train, _ = divide(config, images.y)
    x_NCHW = torch.from_numpy(data.normalization.apply(images.x[train], data.x_val_NCHW.numpy().dtype.type))
    as_floats = replace(data, x_train_NCHW=x_NCHW)
    assert torch.equal(data.train_images(), x_NCHW)
    assert torch.equal(data.train_sample(20)[0], as_floats.train_sample(20)[0])
    for (x, y), (x_floats, y_floats) in zip(data.batches(3, 2, 7), as_floats.batches(3, 2, 7), strict=True):
        assert torch.equal(x, x_floats)
        assert torch.equal(y, y_floats)
    assert torch.equal(torch.from_numpy(images.x[train]), data.x_train_NCHW)  # and nothing has changed them


def test_statistics_do_not_know_the_validation_images(tmp_path: Path) -> None:
    config = bytes_npz(tmp_path / "a.npz")
    arrays = dict(np.load(tmp_path / "a.npz"))
    _, val = divide(config, arrays["y_train"])
    before = prepare(config, CPU, torch.float64)
    arrays["x_train"][val] = 255
    np.savez(tmp_path / "a.npz", **arrays)
    after = prepare(config, CPU, torch.float64)
    np.testing.assert_array_equal(before.normalization.mean, after.normalization.mean)
    assert torch.equal(before.train_images(), after.train_images())
    assert not torch.equal(before.x_val_NCHW, after.x_val_NCHW)


def test_test_images_get_the_same_normalization(tmp_path: Path) -> None:
    config = bytes_npz(tmp_path / "a.npz")
    data = prepare(config, CPU, torch.float64)
    x_test, _ = prepare_test(config, data)
    raw = np.load(tmp_path / "a.npz")["x_test"] / 255
    np.testing.assert_allclose(x_test, raw - data.normalization.mean, atol=1e-12)


def test_a_test_split_unlike_the_training_split_is_refused(tmp_path: Path) -> None:
    config = bytes_npz(tmp_path / "a.npz")
    data = prepare(config, CPU, torch.float32)
    arrays = dict(np.load(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", **{**arrays, "x_test": arrays["x_test"] / 255})
    with pytest.raises(DataError, match=r"x_test holds images of \(3, 4, 4\) in float64.\nAllowed: .* in bytes"):
        prepare_test(config, data)
    np.savez(tmp_path / "a.npz", **{**arrays, "x_test": arrays["x_test"][:, :, :2]})
    with pytest.raises(DataError, match=r"x_test holds images of \(3, 2, 4\)"):
        prepare_test(config, data)


def test_bad_images_stop_before_anything_else(tmp_path: Path) -> None:
    config = bytes_npz(tmp_path / "a.npz")
    arrays = dict(np.load(tmp_path / "a.npz"))
    x = arrays["x_train"].astype(np.float32)
    x[17, 0, 3, 2] = np.nan
    np.savez(tmp_path / "a.npz", **{**arrays, "x_train": x})
    with pytest.raises(DataError, match=r"a\.npz: x_train\[17, 0, 3, 2\] is nan"):
        prepare(config, CPU, torch.float32)


@given(num=st.integers(20, 60), batch_size=st.integers(1, 70), epoch=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_an_epoch_has_each_image_once_but_a_single_left_over(num: int, batch_size: int, epoch: int) -> None:
    data = prepare(synthetic(num, val=5), CPU, torch.float32)
    batches = list(data.batches(0, epoch, batch_size))
    left_over = num > 5 and batch_size > 1 and (num - 5) % batch_size == 1 and num - 5 > batch_size
    assert len(batches) == data.num_batches(batch_size)
    seen = [x.tobytes() for batch, _ in batches for x in batch.numpy()]
    assert len(seen) == len(set(seen)) == num - 5 - left_over
    assert set(seen) <= {x.tobytes() for x in data.train_images().numpy()}
    assert min(len(y) for _, y in batches) > 1 or batch_size == 1
    assert all(len(y) == batch_size for _, y in batches[:-1])


def test_a_single_training_image_makes_a_batch() -> None:
    data = prepare(synthetic(), CPU, torch.float32)
    one = TrainingData(**{**vars(data), "x_train_NCHW": data.x_train_NCHW[:1], "y_train_N": data.y_train_N[:1]})
    assert one.num_batches(10) == len(list(one.batches(0, 1, 10))) == 1


def test_labels_stay_with_their_images() -> None:
    data = prepare(synthetic(), CPU, torch.float32)
    label_of = {x.tobytes(): int(y) for x, y in zip(data.train_images().numpy(), data.y_train_N, strict=True)}
    for x_BCHW, y_B in data.batches(0, 1, 10):
        assert [label_of[x.tobytes()] for x in x_BCHW.numpy()] == y_B.tolist()


def test_batches_come_from_seed_and_epoch_alone() -> None:
    data = prepare(synthetic(augment=["hflip", "crop:1"]), CPU, torch.float32)

    def epoch(seed: int, number: int) -> torch.Tensor:
        return torch.cat([x for x, _ in data.batches(seed, number, 16)])

    torch.manual_seed(1)
    first = epoch(0, 1)
    torch.manual_seed(2)
    assert torch.equal(first, epoch(0, 1))
    assert not torch.equal(first, epoch(0, 2))
    assert not torch.equal(first, epoch(1, 1))


def test_augmentation_changes_training_batches_alone() -> None:
    plain = prepare(synthetic(), CPU, torch.float32)
    augmented = prepare(synthetic(augment=["hflip"]), CPU, torch.float32)
    assert torch.equal(plain.x_val_NCHW, augmented.x_val_NCHW)
    assert torch.equal(plain.train_sample(50)[0], augmented.train_sample(50)[0])
    for (x, y), (x_augmented, y_augmented) in zip(plain.batches(0, 1, 91), augmented.batches(0, 1, 91), strict=True):
        assert torch.equal(y, y_augmented)
        flipped = (x.flip(-1) == x_augmented).flatten(1).all(1)
        same = (x == x_augmented).flatten(1).all(1)
        assert (flipped ^ same).all()
        assert 20 < flipped.sum() < 71


def test_the_training_sample_is_fixed_and_stratified() -> None:
    data = prepare(synthetic(1501, val=100), CPU, torch.float32)
    x, y = data.train_sample(30)
    assert torch.bincount(y).tolist() == [10, 10, 10]
    assert torch.equal(x, data.train_sample(30)[0])
    assert len(data.train_sample()[0]) == len(data.train_sample(9999)[1]) == 1000


def test_limit_leaves_a_stratified_subset() -> None:
    data = prepare(synthetic(101, limit=40), CPU, torch.float32)
    assert (len(data.y_train_N), len(data.y_val_N)) == (30, 10)


def test_the_fingerprint_is_that_of_the_images_not_of_the_split(tmp_path: Path) -> None:
    config = bytes_npz(tmp_path / "a.npz")
    first = prepare(config, CPU, torch.float32).fingerprint
    changed = config.model_copy(update={"seed": 3, "val": 6, "normalize": "none", "limit": 30})
    assert prepare(changed, CPU, torch.float64).fingerprint == first
    assert prepare(bytes_npz(tmp_path / "b.npz"), CPU, torch.float32).fingerprint == first
    arrays = dict(np.load(tmp_path / "a.npz"))
    arrays["x_train"][59, 2, 3, 3] ^= 1
    np.savez(tmp_path / "a.npz", **arrays)
    assert prepare(config, CPU, torch.float32).fingerprint != first
    arrays["x_train"][59, 2, 3, 3] ^= 1
    arrays["y_train"][[0, 1]] = arrays["y_train"][[1, 0]]
    np.savez(tmp_path / "a.npz", **arrays)
    assert prepare(config, CPU, torch.float32).fingerprint != first


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("part_bytes", [100, 2**20])
def test_images_with_channels_last_come_to_lie_as_those_with_channels_first(
    shared: bool, part_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpsearch.datasets.preparing.PART_BYTES", part_bytes)
    if not shared:
        monkeypatch.setattr(SharedMemory, "possible", lambda: False)
    config = bytes_npz(tmp_path / "first.npz", height=5)  # 4 could be channels
    arrays = dict(np.load(tmp_path / "first.npz"))
    for name in ("x_train", "x_test"):
        arrays[name] = np.ascontiguousarray(arrays[name].transpose(0, 2, 3, 1))
    np.savez(tmp_path / "last.npz", **arrays)
    expected = prepare(config, CPU, torch.float32)
    config = config.model_copy(update={"source": f"npz:{tmp_path / 'last.npz'}"})
    found = prepare(config, CPU, torch.float32)
    assert found.fingerprint == expected.fingerprint
    for name in ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).is_contiguous()
    x_test, _ = prepare_test(config, found)
    assert x_test.is_contiguous()
    assert torch.equal(x_test, prepare_test(config, expected)[0])


def test_float64_images_keep_their_precision(tmp_path: Path) -> None:
    x = 1 + 1e-12 * np.random.default_rng(0).standard_normal((20, 1, 2, 2))
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2)
    config = DataConfig(source=f"npz:{tmp_path / 'a.npz'}", val=4, normalize="feature")
    data = prepare(config, CPU, torch.float64)
    np.testing.assert_allclose(data.train_images().std(0, correction=0), 1, rtol=1e-6)


def test_mps_has_no_float64() -> None:
    with pytest.raises(ConfigError, match=r"train\.precision = 'float64' does not run on mps"):
        prepare(synthetic(), torch.device("mps"), torch.float64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_device_sees_the_same_batches() -> None:
    config = synthetic(augment=["hflip", "crop:1"])
    on_cpu, on_gpu = (prepare(config, torch.device(name), torch.float64) for name in ("cpu", "cuda"))
    for (x, y), (x_gpu, y_gpu) in zip(on_cpu.batches(5, 2, 16), on_gpu.batches(5, 2, 16), strict=True):
        torch.testing.assert_close(x_gpu.cpu(), x, rtol=0, atol=1e-12)
        assert torch.equal(y_gpu.cpu(), y)
