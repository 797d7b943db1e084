"""What is searched where no ranges are given: those of the lectures for their nets, narrower ones for deeper nets.

Measured with convnet on 3,000 photographs of 32 pixels, momentum 0.9, 28 trials of 3 epochs over lr [1e-5, 3] and reg
[1e-7, 1e2]: all 17 above lr 4e-2 exploded in their first epoch; the best were 0.36 at 2.7e-3 and 0.34 at 2e-2, the only
one below 1e-4 reached 0.16; reg of 3.5 and 10 at rates of 5e-3 and more left chance. Adaptive optimizers divide by the
size of the gradient, so their rates are a decade lower, around the 1e-3 of the Adam paper. Adagrad's steps shrink as it
sums squares up: Wilson et al. 2017 ("The marginal value of adaptive gradient methods") find 0.01 the best for it where
Adam and RMSprop have 3e-4, so it has the rates of the others. Lion's steps are all of one size: Chen et al. 2023 take
rates 3 to 10 times smaller than AdamW's, so its range is a decade lower again.
"""

from __future__ import annotations

from hpsearch.config.ranges import FloatRange, Range

# Kornblith et al. 2019 ("Do better ImageNet models transfer better?") fine-tune over lr [1e-4, 0.1]; a decade is added
# below, for nets that are near their optimum already.
PRETRAINED = 1e-5, 1e-1

# A body that has trained before needs smaller steps than its new head: Howard & Ruder 2018 ("Universal language model
# fine-tuning for text classification") give lower layers lower rates, 2.6 times a layer. 1 trains all of the net alike,
# at 1e-3 hardly anything of the body moves while its head learns.
BODY = 1e-3, 1.0

LECTURES = ("linear", "mlp")  # for which lr [1e-5, 1] and reg [1e-5, 1e5] hold both what is too low and what explodes
ADAPTIVE = ("adam", "adamw", "nadam", "rmsprop")
BY_SIGN = ("lion",)


def default_space(
    model: str, optimizer: str, *, pretrained: bool = False, trains_body: bool = False
) -> dict[str, Range]:
    """Ranges of lr and reg; of train.body_lr, too, where a body trains that has trained before.

    Args:
        model: its name; a net of the user's counts as a deep one.
        optimizer: its name.
        pretrained: whether it starts from weights of a training before.
        trains_body: whether more of it trains than its head.
    """
    if model in LECTURES:
        low, high, least_reg, most_reg = 1e-5, 1.0, 1e-5, 1e5
    else:
        low, high, least_reg, most_reg = 1e-4, 1e-1, 1e-6, 1.0
    if pretrained:
        low, high = PRETRAINED
    if optimizer in ADAPTIVE:
        low, high = (1e-6 if pretrained else 1e-5), high / 10
    elif optimizer in BY_SIGN:
        low, high = (1e-7 if pretrained else 1e-6), high / 100
    space: dict[str, Range] = {
        "lr": FloatRange(low, high, log=True),
        "reg": FloatRange(least_reg, most_reg, log=True),
    }
    return {**space, "train.body_lr": FloatRange(*BODY, log=True)} if pretrained and trains_body else space
