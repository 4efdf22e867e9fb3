"""The optimizers by their names, weight decay, and rates of weights and biases."""

import math
from collections.abc import Mapping
from typing import Any

import chainer
from chainer import optimizers
from chainer.backends import cuda

#: The learning rate, where nothing else is said.
DEFAULT_RATES = {"momentum_sgd": 0.01, "adam": 0.001, "rmsprop": 0.01}


def make(name: str, model: chainer.Chain, rate: float | None = None, momentum: float = 0.9) -> Any:
    """Makes an optimizer and sets it up for a model.

    Args:
        name: One of :data:`train.choices.OPTIMIZERS`.
        model: What it trains.
        rate: The learning rate; by default the one usual for it. RMSpropWarmup has none: its
            schedule sets it.
        momentum: Of momentum_sgd and rmsprop_warmup.

    Returns:
        A chainer.GradientMethod.

    Example:
        >>> optimizer = make("adam", model)
    """
    if rate is None:
        rate = DEFAULT_RATES.get(name, math.nan)
    if name == "momentum_sgd":
        optimizer: Any = optimizers.MomentumSGD(lr=rate, momentum=momentum)
    elif name == "adam":
        optimizer = optimizers.Adam(alpha=rate)
    elif name == "rmsprop":
        optimizer = optimizers.RMSprop(lr=rate, alpha=0.99, eps=1e-8)
    elif name == "rmsprop_warmup":
        optimizer = RMSpropWarmup(momentum=momentum)
    else:
        raise ValueError(name)
    return optimizer.setup(model)


def is_bias(parameter: chainer.Parameter) -> bool:
    """Tells whether a parameter is added and not multiplied: a bias, or a normalization's beta."""
    return parameter.name in ("b", "beta")


def rate_name(optimizer: Any) -> str:
    """Returns what an optimizer calls its learning rate: Adam's is ``alpha``."""
    return "alpha" if isinstance(optimizer, optimizers.Adam) else "lr"


def set_rates(optimizer: Any, rates: Mapping[str, float], bias_rate: float = 1.0) -> None:
    """Sets hyperparameters of an optimizer for the updates that follow.

    Args:
        optimizer: Set up for a model.
        rates: Values by name; "rate" stands for the learning rate.
        bias_rate: Factor of the learning rate of biases.
    """
    for name, value in rates.items():
        setattr(optimizer, rate_name(optimizer) if name == "rate" else name, value)
    if bias_rate != 1.0 and "rate" in rates:
        for parameter in optimizer.target.params():
            if is_bias(parameter):
                own = parameter.update_rule.hyperparam
                setattr(own, rate_name(optimizer), rates["rate"] * bias_rate)


def decay(optimizer: Any, l2: float = 0.0, l1: float = 0.0, biases: bool = True) -> None:
    """Adds weight decay: before each update, ``l2 w + l1 sign(w)`` is added to the gradient.

    Args:
        optimizer: Set up for a model.
        l2: Factor of the weights.
        l1: Factor of their signs.
        biases: Whether biases decay too.
    """
    hooks = []
    if l2:
        hooks.append(chainer.optimizer_hooks.WeightDecay(l2))
    if l1:
        hooks.append(chainer.optimizer_hooks.Lasso(l1))
    for parameter in optimizer.target.params():
        if biases or not is_bias(parameter):
            for hook in hooks:
                parameter.update_rule.add_hook(hook, timing="pre")


class _RMSpropWarmupRule(chainer.UpdateRule):
    """See :class:`RMSpropWarmup`."""

    is_elementwise = True

    def init_state(self, param: chainer.Parameter) -> None:
        with chainer.using_device(param.device):
            self.state["m"] = param.device.xp.zeros_like(param.array)
            self.state["delta"] = param.device.xp.zeros_like(param.array)

    def update_core_cpu(self, param: chainer.Parameter) -> None:
        gradient = param.grad
        if gradient is None:
            return
        hp, m, delta = self.hyperparam, self.state["m"], self.state["delta"]
        kind = gradient.dtype.type
        m *= kind(hp.mu2)
        m += kind(1 - hp.mu2) * gradient * gradient
        scale = kind(hp.a_rmsprop) / (m**0.5 + kind(hp.eps))
        scale += kind(hp.a_sgd)
        scale *= gradient
        delta *= kind(hp.momentum)
        delta -= scale
        param.array += kind(hp.lr) * delta

    def update_core_gpu(self, param: chainer.Parameter) -> None:
        gradient = param.grad
        if gradient is None:
            return
        hp = self.hyperparam
        cuda.elementwise(
            "T g, T eta, T mu1, T mu2, T a_sgd, T a_rmsprop, T eps",
            "T theta, T m, T delta",
            """m = mu2 * m + (1 - mu2) * g * g;
               delta = mu1 * delta - (a_sgd + a_rmsprop / (sqrt(m) + eps)) * g;
               theta += eta * delta;""",
            "rmsprop_warmup",
        )(
            gradient, hp.lr, hp.momentum, hp.mu2, hp.a_sgd, hp.a_rmsprop, hp.eps,
            param.array, self.state["m"], self.state["delta"],
        )  # fmt: skip


class RMSpropWarmup(chainer.GradientMethod):
    """Begins as RMSprop and becomes momentum SGD; see :class:`train.schedules.Warmup`.

    With m the mean of squared gradients g:

        m <- mu2 m + (1 - mu2) g^2
        delta <- momentum delta - (a_sgd + a_rmsprop / (sqrt(m) + eps)) g
        theta <- theta + lr delta

    Args:
        lr: Learning rate.
        momentum: How much of the last step is in the next.
        mu2: How much of the mean of squares is kept.
        eps: Keeps the division finite.
        a_sgd: Share of SGD.
        a_rmsprop: Share of RMSprop.
    """

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.9,
        mu2: float = 0.99,
        eps: float = 1e-8,
        a_sgd: float = 1.0,
        a_rmsprop: float = 0.0,
    ):
        super().__init__()
        self.hyperparam.lr = lr
        self.hyperparam.momentum = momentum
        self.hyperparam.mu2 = mu2
        self.hyperparam.eps = eps
        self.hyperparam.a_sgd = a_sgd
        self.hyperparam.a_rmsprop = a_rmsprop

    lr = chainer.optimizer.HyperparameterProxy("lr")
    momentum = chainer.optimizer.HyperparameterProxy("momentum")
    a_sgd = chainer.optimizer.HyperparameterProxy("a_sgd")
    a_rmsprop = chainer.optimizer.HyperparameterProxy("a_rmsprop")

    def create_update_rule(self) -> chainer.UpdateRule:
        """Returns the rule for one parameter."""
        return _RMSpropWarmupRule(self.hyperparam)
