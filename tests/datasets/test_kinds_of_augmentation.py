"""Each kind of augmentation is torchvision's, or a few lines of plain torch, by image and with the same draws."""

import math

import pytest
import torch
from torchvision.transforms import AutoAugmentPolicy, v2
from torchvision.transforms.v2 import functional as tv

from hpsearch.config.augmentations import KINDS, parse_augmentation
from hpsearch.datasets import augmentation, colours, policies, warps
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.normalization import fit
from hpsearch.datasets.pixels import Pixels, colours_of
from hpsearch.datasets.policy_tables import TABLES
from hpsearch.training.graph import _Watched

NUM = 40
SHAPES = [(3, 9, 12), (1, 8, 8)]


def made(shape, kind, num=NUM):
    """Images from 0 to 1, what is known of them, and the draws of a kind, in two batches."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(num, *shape, generator=generator, dtype=torch.float64)
    x = x * torch.rand(num, shape[0], 1, 1, generator=generator, dtype=torch.float64)
    x = (x - x.min()) / (x.max() - x.min())  # what is black and white of floats
    normalization = fit("channel", x.numpy())
    pixels = Pixels(normalization, colours_of([x], normalization, normalized=False), x)
    draws = Draws(num, shape, ((0, num // 2), (num // 2, num)), generator)
    return x, pixels, augmentation.draw_noise(kind, num, generator, draws)


def expect(kind, shape, one_image, **tolerance):
    """The batch is each image by itself: `one_image` of the image, its draws, and what is known."""
    x, pixels, noise = made(shape, kind)
    found = augmentation.augment(kind, x, noise, pixels)
    expected = torch.stack([one_image(image, own, pixels) for image, own in zip(x, noise, strict=True)])
    torch.testing.assert_close(found, expected, **({"rtol": 1e-6, "atol": 1e-6} | tolerance))
    assert not torch.equal(found, x) or shape[0] == 1
    alone = torch.cat([augmentation.augment(kind, x[i : i + 1], noise[i : i + 1], pixels) for i in range(5)])
    torch.testing.assert_close(found[:5], alone, rtol=1e-12, atol=1e-12)
    return noise


@pytest.mark.parametrize("shape", SHAPES)
def test_rotate(shape):
    def turned(image, degrees, pixels):
        off = tv.rotate(image - pixels.mean, float(degrees), v2.InterpolationMode.BILINEAR)
        return off + pixels.mean

    degrees = expect("rotate:30", shape, turned)
    assert degrees.min() < -20
    assert 20 < degrees.max() <= 30


@pytest.mark.parametrize("shape", SHAPES)
def test_translate(shape):
    def moved(image, shift, pixels):
        down, right = shift.tolist()
        off = tv.affine(image - pixels.mean, 0.0, [right, down], 1.0, [0.0, 0.0])
        return off + pixels.mean

    shift = expect("translate:0.3", shape, moved)
    assert shift.abs().amax(0).tolist() == [round(0.3 * side) for side in shape[1:]]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 4, 16)])
def test_scale(shape):
    def enlarged(image, window, _pixels):
        top, left, height, width = window.tolist()
        assert 0 <= top <= shape[1] - height
        assert 0 <= left <= shape[2] - width
        return tv.resized_crop(image, top, left, height, width, list(shape[1:]))

    window = expect("scale:0.25", shape, enlarged)
    share = window[:, 2] * window[:, 3] / (shape[1] * shape[2])
    assert share.min() < 0.5


def test_windows_are_those_of_random_resized_crop(monkeypatch):
    """Its rule, fed with the same numbers: attempts at a window that fits, then the middle."""
    height, width, num = 8, 14, 60
    draws = Draws(num, (1, height, width), (), torch.Generator().manual_seed(4))
    windows = warps.draw_scale(parse_augmentation("scale:0.6"), draws)
    again = Draws(num, (1, height, width), (), torch.Generator().manual_seed(4))
    area, aspect, place = again.uniform(10), again.signed(10), again.uniform(2)
    for row in range(num):
        numbers = iter([number for pair in zip(area[row], aspect[row], strict=True) for number in pair])
        corners = iter(place[row])

        def uniform(tensor, low, high, numbers=numbers):
            number = next(numbers)
            share = number if low > 0 else (number + 1) / 2
            return tensor.fill_(float(low + (high - low) * share))

        def randint(low, high, size, corners=corners):
            return torch.full(size, int(next(corners) * high))

        monkeypatch.setattr(torch.Tensor, "uniform_", uniform)
        monkeypatch.setattr(torch, "randint", randint)
        found = v2.RandomResizedCrop.make_params(
            v2.RandomResizedCrop(8, scale=(0.6, 1.0)), [torch.zeros(1, height, width)]
        )
        monkeypatch.undo()
        assert windows[row].tolist() == [found[name] for name in ("top", "left", "height", "width")]


@pytest.mark.parametrize("shape", SHAPES)
def test_elastic(shape):
    def warped(image, shift, pixels):
        height, width = shape[1:]
        shifts = warps.elastic_shifts(shift[None].double(), height, width)[0]
        grid = torch.stack([shifts[0] * 2 / width, shifts[1] * 2 / height], -1)[None]
        off = tv.elastic(image - pixels.mean, grid, v2.InterpolationMode.BILINEAR)
        return off + pixels.mean

    shift = expect("elastic:1.5", shape, warped)
    assert shift.std() == pytest.approx(1.5, rel=0.1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors(shape, name):
    change = getattr(tv, f"adjust_{name}")
    factor = expect(f"{name}:0.4", shape, lambda image, factor, _: change(image, float(factor)))
    assert 0.6 <= factor.min() < 0.7
    assert 1.3 < factor.max() <= 1.4
    assert made(shape, f"{name}:2")[2].min() >= 0


@pytest.mark.parametrize("shape", SHAPES)
def test_hue(shape):
    turns = expect("hue:0.5", shape, lambda image, turns, _: tv.adjust_hue(image, float(turns)).double(), atol=1e-5)
    assert -0.5 <= turns.min() < -0.3
    assert 0.3 < turns.max() <= 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_pca_moves_along_the_colours_of_the_training_images(shape):
    x, _, _ = made(shape, "pca:0.1", num=400)
    covariance = x.transpose(0, 1).flatten(1).cov(correction=0).reshape(shape[0], shape[0])
    x, pixels, _ = made(shape, "pca:0.1", num=400)
    torch.testing.assert_close(pixels.axes @ pixels.axes.T, covariance, rtol=1e-9, atol=1e-12)
    squares = pixels.axes.T @ pixels.axes
    torch.testing.assert_close(squares, squares.diagonal().diag(), rtol=1e-9, atol=1e-12)
    expect("pca:0.1", shape, lambda image, steps, p: (image + (p.axes @ steps.double())[:, None, None]).clamp(0, 1))


def test_noise_is_gaussian_and_each_images_own():
    seeds = torch.randint(2**32, (50,), generator=torch.Generator().manual_seed(1))
    noise = colours.gaussian(seeds, torch.empty(50, 3, 20, 20, dtype=torch.float64))
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    assert float((noise.abs() > 2).double().mean()) == pytest.approx(0.0455, abs=0.005)
    assert torch.isfinite(noise).all()
    rows = noise.flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(50)).abs().max() < 0.15
    assert (torch.corrcoef(rows.T[:40]) - torch.eye(40)).abs().max() < 0.7
    torch.testing.assert_close(noise[7:8], colours.gaussian(seeds[7:8], noise[7:8]), rtol=0, atol=0)
    in_float32 = colours.gaussian(seeds, torch.empty(50, 3, 20, 20))
    torch.testing.assert_close(in_float32.double(), noise, rtol=1e-4, atol=1e-4)
    extremes = ((torch.tensor([0, 2**23 - 1]).float() + 0.5) / 2**22 - 1).erfinv()
    assert torch.isfinite(extremes).all()
    x, pixels, drawn = made((3, 9, 12), "noise:0.2")
    found = augmentation.augment("noise:0.2", x, drawn, pixels)
    torch.testing.assert_close(found, (x + 0.2 * colours.gaussian(drawn, x)).clamp(0, 1))


@pytest.mark.parametrize("size", [1, 4, 5, 30])
def test_cutout(size):
    def cut(image, middle, pixels):
        row, column = (place - size // 2 for place in middle.tolist())
        image = image.clone()
        image[:, max(0, row) : max(0, row + size), max(0, column) : max(0, column + size)] = pixels.mean
        return image

    middle = expect(f"cutout:{size}", (3, 9, 12), cut, rtol=0, atol=0)
    assert middle.amin(0).tolist() == [0, 0]
    assert middle.amax(0).tolist() == [8, 11]


def test_gridmask():
    def masked(image, shift, pixels):
        image = image.clone()
        for row in range(9):
            for column in range(12):
                if (row + shift[0]) % 6 < 3 and (column + shift[1]) % 6 < 3:
                    image[:, row, column] = pixels.mean[:, 0, 0]
        return image

    expect("gridmask:3", (3, 9, 12), masked, rtol=0, atol=0)


def test_mixup_and_cutmix_are_the_papers_formulas():
    x, pixels, noise = made((3, 9, 12), "mixup:0.3")
    batch, own = x[:20], noise[:20]
    other, share = own[:, 0].long(), float(own[0, 1])
    assert sorted(other.tolist()) == list(range(20))
    assert (own[:, 1] == share).all()
    assert 0 <= share <= 1
    assert share != float(noise[20, 1])
    found = augmentation.augment("mixup:0.3", batch, own, pixels)
    torch.testing.assert_close(found, share * batch + (1 - share) * batch[other], rtol=1e-6, atol=1e-6)

    x, pixels, noise = made((3, 9, 12), "cutmix:1")
    batch, own = x[20:], noise[20:]
    other, (share, top, bottom, left, right) = own[:, 0].long(), own[0, 1:].tolist()
    expected = batch.clone()
    window = (..., slice(int(top), int(bottom)), slice(int(left), int(right)))
    expected[window] = batch[other][window]
    assert torch.equal(augmentation.augment("cutmix:1", batch, own, pixels), expected)
    assert share == pytest.approx(1 - (bottom - top) * (right - left) / 108)


def test_shares_are_of_the_beta_distribution():
    draws = Draws(4000, (1, 4, 4), tuple((n, n + 2) for n in range(0, 4000, 2)), torch.Generator().manual_seed(0))
    shares = augmentation.draw_noise("mixup:0.4", 4000, draws.generator, draws)[::2, 1].double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(0.25 / 1.8, abs=0.01)  # a^2 / ((2 a)^2 (2 a + 1))


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "svhn"])
def test_tables_are_torchvisions(name):
    theirs = v2.AutoAugment(AutoAugmentPolicy(name))._policies
    assert [[(op, chance / 10, bin_) for op, chance, bin_ in pair] for pair in TABLES[name]] == [
        [(op, chance, bin_ or 0) for op, chance, bin_ in pair] for pair in theirs
    ]


@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 8, 8)])
@pytest.mark.parametrize(
    ("kind", "space", "num_bins"),
    [
        ("autoaugment:cifar10", v2.AutoAugment, 10),
        ("autoaugment:svhn", v2.AutoAugment, 10),
        ("randaugment:3,9", v2.RandAugment, 31),
        ("trivialaugment", v2.TrivialAugmentWide, 31),
    ],
)
def test_policies_do_what_torchvision_does(shape, kind, space, num_bins):
    """Each step by torchvision's own code; magnitudes are those of its bins, and all operations come."""
    x, pixels, steps = made(shape, kind, num=400)
    found = augmentation.augment(kind, x, steps, pixels)
    theirs, fill, seen = space(), pixels.mean.flatten().tolist(), set()
    bins = {
        name: None if (all_ := function(num_bins, *shape[1:])) is None else all_.double()
        for name, (function, _) in space._AUGMENTATION_SPACE.items()
    }
    for image, own, mine in zip(x, steps, found, strict=True):
        for number, strength, *map_ in own.tolist():
            name = policies.OPERATIONS[int(number)]
            seen.add(name)
            magnitude = {
                "ShearX": map_[1],
                "ShearY": map_[3],
                "TranslateX": -map_[2],
                "TranslateY": -map_[5],
                "Rotate": math.degrees(math.atan2(map_[3], map_[0])),
                "Posterize": math.log2(max(strength, 1)),
                "Solarize": strength,
            }.get(name, strength - 1)
            if name != "Identity" and bins[name] is not None:
                known = bins[name].trunc() if name.startswith("Translate") else bins[name]
                assert (known - abs(magnitude)).abs().min() < 1e-4
            image = theirs._apply_image_or_video_transform(
                image, name, magnitude, v2.InterpolationMode.NEAREST, {torch.Tensor: fill, "others": fill}
            )
        if (name, round(abs(magnitude))) != ("Rotate", 90):  # where two pixels are as near
            torch.testing.assert_close(mine, image, rtol=1e-5, atol=1e-5)
    assert len(seen) > 5 if kind.startswith("auto") else seen == set(bins)


@pytest.mark.parametrize(
    "kind", [f"{kind.name}:{kind.example}" if kind.letter else kind.name for kind in KINDS.values()]
)
def test_where_a_host_would_wait_it_is_the_same(kind, monkeypatch):
    """On a GPU operations are done to all images, and taken over by those that drew them."""
    x, pixels, noise = made((3, 9, 12), kind)
    expected = augmentation.augment(kind, x, noise, pixels)

    monkeypatch.setattr(policies, "host_is_free", lambda _: False)
    with _Watched():  # refuses what reads a number back, and what gives as many numbers as the data say
        found = augmentation.augment(kind, x, noise, pixels)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
