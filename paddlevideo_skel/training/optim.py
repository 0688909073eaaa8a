"""Optimizer and learning-rate schedules, under PaddleVideo's names.

The optimizer is SGD with momentum, L2 decay and clipping by the gradient's norm. A schedule is stepped once per
iteration with ``iter_step: True``, otherwise once per epoch; its ``num_iters`` is the number of steps per epoch: the
iterations, or 1.
"""
import math

from paddle import nn, optimizer, regularizer
from paddle.optimizer.lr import LRScheduler

from ..config_schema import DEFAULTS
from ..errors import ConfigError, near_miss
from ..registry import Registry, split_name

SCHEDULES = Registry("learning-rate schedule")


def check_optimizer(section, where):
    """Check an OPTIMIZER section without building anything.

    Raises:
        ConfigError: a missing key, an unknown name or a value out of range.
    """
    for key in ("name", "learning_rate"):
        if key not in section:
            raise ConfigError(where, f"the key {key!r} is missing")
    if section["name"] != "Momentum":
        raise ConfigError(f"{where}.name", f"unknown optimizer {section['name']!r}",
                          near_miss(section["name"], ["Momentum"]))
    check_schedule(section["learning_rate"], f"{where}.learning_rate")
    for key, known in (("weight_decay", "L2"), ("grad_clip", "ClipGradByGlobalNorm")):
        if section.get(key) is not None:
            name, arguments = split_name(section[key], f"{where}.{key}")
            if name != known or set(arguments) != {"value"}:
                raise ConfigError(f"{where}.{key}", f"found {section[key]!r}, expected name: {known}, value: a number")
            value = arguments["value"]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise ConfigError(f"{where}.{key}.value", f"found {value!r}, expected a number >= 0")
    momentum = section.get("momentum", DEFAULTS["OPTIMIZER.momentum"])
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 <= momentum < 1:
        raise ConfigError(f"{where}.momentum", f"found {momentum!r}, expected 0 <= momentum < 1")


def build_optimizer(section, schedule, parameters):
    """SGD with momentum. As in PaddleVideo, the weight decay applies to all parameters, biases and norms too."""
    decay, clip = section.get("weight_decay"), section.get("grad_clip")
    return optimizer.Momentum(
        learning_rate=schedule, parameters=parameters,
        momentum=section.get("momentum", DEFAULTS["OPTIMIZER.momentum"]),
        use_nesterov=section.get("use_nesterov", DEFAULTS["OPTIMIZER.use_nesterov"]),
        weight_decay=regularizer.L2Decay(float(decay["value"])) if decay else None,
        grad_clip=nn.ClipGradByGlobalNorm(float(clip["value"])) if clip else None)


class _ByEpoch(LRScheduler):
    """A learning rate that is a function of the epoch, a real number that grows by 1 / num_iters per step."""

    def __init__(self, num_iters):
        self.num_iters = num_iters
        super().__init__()

    def get_lr(self):
        return self.rate(self.last_epoch / self.num_iters)


@SCHEDULES.register
class CustomWarmupCosineDecay(_ByEpoch):
    """Linear warm-up from ``warmup_start_lr`` onto a cosine from ``cosine_base_lr`` to 0 over ``max_epoch`` epochs."""

    def __init__(self, warmup_start_lr, warmup_epochs, cosine_base_lr, max_epoch, num_iters=1):
        self.start, self.warmup_epochs, self.base, self.max_epoch = (
            warmup_start_lr, warmup_epochs, cosine_base_lr, max_epoch)
        super().__init__(num_iters)

    def _cosine(self, epoch):
        return self.base * 0.5 * (1 + math.cos(math.pi * epoch / self.max_epoch))

    def rate(self, epoch):
        if epoch >= self.warmup_epochs:
            return self._cosine(epoch)
        return self.start + (self._cosine(self.warmup_epochs) - self.start) * epoch / self.warmup_epochs


@SCHEDULES.register
class CustomCosineAnnealingDecay(_ByEpoch):
    """A cosine from ``learning_rate`` to 0 over ``max_epoch`` epochs."""

    def __init__(self, learning_rate, max_epoch, num_iters=1):
        self.base, self.max_epoch = learning_rate, max_epoch
        super().__init__(num_iters)

    def rate(self, epoch):
        return self.base * 0.5 * (1 + math.cos(math.pi * epoch / self.max_epoch))


@SCHEDULES.register
class CustomWarmupAdjustDecay(_ByEpoch):
    """Warm-up epoch e has (e + 1) / warmup_epochs of the base rate; then × ``lr_decay_rate`` at each boundary."""

    def __init__(self, step_base_lr, warmup_epochs, lr_decay_rate, boundaries, num_iters=1):
        self.base, self.warmup_epochs, self.decay, self.boundaries = (
            step_base_lr, warmup_epochs, lr_decay_rate, boundaries)
        super().__init__(num_iters)

    def rate(self, epoch):
        if epoch < self.warmup_epochs:
            return self.base * (int(epoch) + 1) / self.warmup_epochs
        return self.base * self.decay ** sum(epoch >= boundary for boundary in self.boundaries)


@SCHEDULES.register
class PiecewiseDecay(_ByEpoch):
    """``values[i]`` until epoch ``boundaries[i]``; one more value than boundaries."""

    def __init__(self, boundaries, values, num_iters=1):
        if len(values) != len(boundaries) + 1:
            raise ValueError(f"{len(values)} values for {len(boundaries)} boundaries, expected one more value")
        self.boundaries, self.values = boundaries, values
        super().__init__(num_iters)

    def rate(self, epoch):
        return self.values[sum(epoch >= boundary for boundary in self.boundaries)]


@SCHEDULES.register
class MultiStepDecay(_ByEpoch):
    """``learning_rate`` × ``gamma`` at each of the ``milestones``."""

    def __init__(self, learning_rate, milestones, gamma=0.1, num_iters=1):
        self.base, self.milestones, self.gamma = learning_rate, milestones, gamma
        super().__init__(num_iters)

    def rate(self, epoch):
        return self.base * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@SCHEDULES.register
class CosineAnnealingDecay(_ByEpoch):
    """A cosine from ``learning_rate`` to ``eta_min`` over ``T_max`` epochs, as Paddle's own of that name."""

    def __init__(self, learning_rate, T_max, eta_min=0.0, num_iters=1):
        self.base, self.t_max, self.eta_min = learning_rate, T_max, eta_min
        super().__init__(num_iters)

    def rate(self, epoch):
        return self.eta_min + (self.base - self.eta_min) * 0.5 * (1 + math.cos(math.pi * epoch / self.t_max))


def check_schedule(section, where):
    """Check an ``OPTIMIZER.learning_rate`` section: a number, or a schedule's name and arguments."""
    if isinstance(section, (int, float)) and not isinstance(section, bool):
        return
    name, arguments = split_name(section, where)
    arguments.pop("iter_step", None)
    SCHEDULES.check(name, arguments, where, given=("num_iters",))


def build_schedule(section, num_iters, where):
    """``(schedule, iter_step)``: the schedule, and whether it is stepped every iteration."""
    check_schedule(section, where)
    if not isinstance(section, dict):
        return PiecewiseDecay([], [float(section)]), False
    name, arguments = split_name(section, where)
    iter_step = bool(arguments.pop("iter_step", False))
    try:
        schedule = SCHEDULES.build(name, arguments, where, num_iters=num_iters if iter_step else 1)
    except (ZeroDivisionError, OverflowError) as error:
        raise ConfigError(where, f"{name}: {error}") from error
    return schedule, iter_step
