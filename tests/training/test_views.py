"""Several views of an image: which they are, and what is made of their probabilities."""

import pytest
import torch
from plain_training import make_config
from torchvision.transforms.v2 import functional as tv

from hpsearch.errors import ConfigError
from hpsearch.models import build_initialized
from hpsearch.training.class_scores import class_scores
from hpsearch.training.views import VIEWS, log_probabilities, refuse_unknown_views, views_of


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_flip_is_the_image_and_its_mirror_image(images):
    plain, mirrored = views_of("flip", images)
    assert torch.equal(plain, images)
    assert torch.equal(mirrored, tv.horizontal_flip(images))


def test_ten_crop_is_torchvisions_enlarged_to_the_whole(images):
    windows = tv.ten_crop(images, [14, 28])
    expected = [tv.resize(window, [16, 32], antialias=False) for window in windows]
    found = list(views_of("ten-crop", images))
    assert len(found) == len(expected) == 10
    for view in found:  # in another order
        assert any(torch.allclose(view, each, rtol=1e-9, atol=1e-9) for each in expected)
    assert all(view.shape == images.shape for view in found)


@pytest.mark.parametrize("views", VIEWS)
def test_probabilities_are_averaged_not_logits(images, views):
    config = make_config(model__hidden=(6,), model__init="he").model
    net = build_initialized(config, (3, 16, 32), 4, 1).double().eval()
    with torch.no_grad():
        expected = torch.stack([net(view).softmax(1) for view in views_of(views, images)]).mean(0)
        found = class_scores(config, net.state_dict(), images, 4, views)
        torch.testing.assert_close(found.softmax(1), expected)
        torch.testing.assert_close(log_probabilities(net, images, views), found)
        assert not torch.allclose(net(images).softmax(1), expected)


def test_views_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match=r"^--views fivecrop is not allowed.\nAllowed: flip, ten-crop.$"):
        refuse_unknown_views("fivecrop")
