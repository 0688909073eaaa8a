"""From a config's MODEL section to a recognizer."""
from ..errors import ConfigError
from ..registry import split_name
from .layers import BACKBONES, HEADS, RECOGNIZERS
from .recognizers import parse_models

DISTILLATION = "RecognizerDistillation"
PARTS = (("backbone", BACKBONES), ("head", HEADS))


def _singles(section, where):
    """The backbone-and-head sections in a MODEL section with their key paths."""
    if "framework" not in section:
        raise ConfigError(where, "needs the key 'framework'", f"Known: {', '.join(RECOGNIZERS.classes)}")
    RECOGNIZERS.get(section["framework"], f"{where}.framework")
    if section["framework"] != DISTILLATION:
        return [(None, section, where)], []
    pairs, frozen = parse_models(section, where)
    return [(name, spec, f"{where}.models.{i}.{name}") for i, (name, spec) in enumerate(pairs)], frozen


def check_model(section, where="MODEL"):
    """Check names and arguments of a MODEL section without building it."""
    singles, _ = _singles(section, where)
    for _, spec, at in singles:
        for part, registry in PARTS:
            name, arguments = split_name((spec or {}).get(part), f"{at}.{part}")
            registry.check(name, arguments, f"{at}.{part}")
    return section


def build_model(section, where="MODEL"):
    """Build the recognizer of a MODEL section.

    Raises:
        ConfigError: naming the key path of an unknown name or argument, or of parts that do not fit.
    """
    check_model(section, where)
    singles, frozen = _singles(section, where)
    models = {}
    for name, spec, at in singles:
        backbone, head = (registry.build_spec(spec[part], f"{at}.{part}") for part, registry in PARTS)
        framework = section["framework"] if name is None else backbone.recognizer
        models[name] = RECOGNIZERS.build(framework, {}, at, backbone=backbone, head=head)
    if section["framework"] != DISTILLATION:
        return models[None]
    return RECOGNIZERS.build(DISTILLATION, {}, where, models=models, frozen=frozen, loss=section.get("loss") or {})
