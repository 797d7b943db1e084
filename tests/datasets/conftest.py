"""The fixtures of `archives`, which tests import by name where they need its functions, too."""

from archives import cifar10, mnist, server, svhn

__all__ = ["cifar10", "mnist", "server", "svhn"]
