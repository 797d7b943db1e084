"""Functions of a user's, as `data.augment` names them: own_augmentations:NAME."""

import torch


def dim(x):
    return 0.5 * x


def shift(x, draws):
    """By up to two pixels to the right, each image by its own."""
    columns = torch.arange(x.shape[3], device=x.device) - (3 * draws[:, :1]).long()
    return x.gather(3, columns.clamp(0)[:, None, None, :].expand(x.shape))


def jitter(x, noise):
    return x + 0.1 * noise.to(x.dtype)[:, :, None, None]


jitter.draws = lambda num, generator: torch.randn(num, 1, generator=generator)


def blend(x, y, draws):
    """Each image with the one at the other end of its batch, by a share of its own; the shares of labels follow."""
    share = draws[:, 0]
    share_x = share.to(x.dtype)[:, None, None, None]
    x = share_x * x + (1 - share_x) * x.flip(0)
    return x, share.to(y.dtype)[:, None] * y + (1 - share.to(y.dtype)[:, None]) * y.flip(0)


blend.draws = 2


def smear(images, labels):
    return images, 0.9 * labels + 0.1 / labels.shape[1]


def swapped(x, draws, labels):
    return blend(x, labels, draws)


swapped.draws = 2
