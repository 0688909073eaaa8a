"""Optimizers under PaddleVideo's names: Momentum with L2 decay and a limit on the gradient's norm."""
from paddle import nn, optimizer, regularizer

from ..errors import ConfigError, near_miss
from ..registry import split_name
from .schedules import check_schedule


def check_optimizer(section, where):
    """Check an OPTIMIZER section without building it."""
    for key in ("name", "learning_rate"):
        if key not in section:
            raise ConfigError(where, f"needs the key {key!r}")
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
                raise ConfigError(f"{where}.{key}.value", f"found {value!r}, expected a number of at least 0")
    momentum = section.get("momentum", 0.9)
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 <= momentum < 1:
        raise ConfigError(f"{where}.momentum", f"found {momentum!r}, expected 0 <= momentum < 1")


def build_optimizer(section, schedule, parameters):
    """SGD with momentum over the parameters that learn. As in PaddleVideo, the decay applies to all of them."""
    decay, clip = section.get("weight_decay"), section.get("grad_clip")
    return optimizer.Momentum(
        learning_rate=schedule, momentum=section.get("momentum", 0.9), parameters=parameters,
        use_nesterov=section.get("use_nesterov", False),
        weight_decay=regularizer.L2Decay(float(decay["value"])) if decay else None,
        grad_clip=nn.ClipGradByGlobalNorm(float(clip["value"])) if clip else None)
