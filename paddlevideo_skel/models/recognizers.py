"""Recognizers: a backbone and a head, or several that are trained together; built from a config's MODEL section."""
import math

import paddle
from paddle import nn

from ..errors import ConfigError
from ..registry import split_name
from .layers import BACKBONES, HEADS, RECOGNIZERS

DISTILLATION = "RecognizerDistillation"
PARTS = (("backbone", BACKBONES), ("head", HEADS))


class Recognizer(nn.Layer):
    """The common interface of training, testing and export, for one model or several.

    Attributes:
        names: names of the models in a distillation, in the config's order; empty for a single model. With names,
            ``forward`` returns a dict name → logits, otherwise logits ``(N, num_classes)``.
        frozen: those of ``names`` that do not learn.
        main_name: the one of ``names`` that is scored and exported. A single model has a name too: the name of the
            weights that it loads from a distillation's checkpoint.
    """

    names = ()
    frozen = frozenset()
    main_name = "Student"

    @property
    def main(self):
        """The model that is scored and exported, as a ``SingleRecognizer``: the recognizer itself, or the student."""
        return self

    def main_logits(self, outputs):
        """The main model's logits ``(N, num_classes)`` in what ``forward`` returned."""
        return outputs


class SingleRecognizer(Recognizer):
    """Backbone and head: ``(N, …) → (N, num_classes)``; subclasses give ``average(logits)``.

    A backbone that takes clips gives one row of logits per clip, of which ``average`` makes one.
    """

    def __init__(self, backbone, head):
        super().__init__()
        for part in (backbone, head):
            if part.recognizer != type(self).__name__:
                raise ValueError(f"{type(part).__name__} does not fit this framework; set framework: {part.recognizer}")
        if backbone.out_channels != head.features:
            raise ValueError(f"the head takes {head.features} features, but the backbone gives "
                             f"{backbone.out_channels}; set the head's in_channels accordingly")
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.average(self.head(self.backbone(x)))


@RECOGNIZERS.register
class RecognizerGCN(SingleRecognizer):
    """Averages logits over clips, as pyskl and PaddleVideo do."""

    @staticmethod
    def average(logits):
        """``(N, clips, num_classes)`` or ``(N, num_classes) → (N, num_classes)``."""
        return logits.mean(axis=1) if logits.ndim == 3 else logits


@RECOGNIZERS.register
class Recognizer3D(SingleRecognizer):
    """Averages scores over clips, as PoseC3D does: the softmax of the result is the mean of the clips' softmax.

    This also holds in training: the loss of a sample with several clips is computed from its mean score.
    """

    @staticmethod
    def average(logits):
        """``(N, clips, num_classes)`` or ``(N, num_classes) → (N, num_classes)``; one clip's logits are unchanged.

        For several clips it is log(mean(softmax)), computed in log space, so that no small score becomes log(0).
        """
        if logits.ndim == 2:
            return logits
        if logits.shape[1] == 1:
            return logits.squeeze(1)
        # Not log_softmax: Paddle clips it at -64 on CPUs, other runtimes do not.
        scores = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        return paddle.logsumexp(scores, axis=1) - math.log(logits.shape[1])


@RECOGNIZERS.register
class RecognizerDistillation(Recognizer):
    """Several named models on one input, for distillation and mutual learning.

    Each model is a ``Sequential`` of backbone and head, which gives the keys ``Teacher.0.*`` and ``Teacher.1.*``.
    A frozen model stays in evaluation mode and gets no gradients. (PaddleVideo leaves its BatchNorm in training mode,
    so that its frozen teacher drifts.)

    Args:
        models: dict name → ``SingleRecognizer``.
        frozen: names of the models that do not learn.
        loss: the config's ``loss`` section, for the trainer.
    """

    def __init__(self, models, frozen, loss):
        super().__init__()
        self.names, self.frozen, self.loss = tuple(models), frozenset(frozen), loss
        self.recognizers = {name: type(model) for name, model in models.items()}
        for name, model in models.items():
            setattr(self, name, nn.Sequential(model.backbone, model.head))
        for name in self.frozen:
            for parameter in getattr(self, name).parameters():
                parameter.stop_gradient = True

    def train(self):
        super().train()
        for name in self.frozen:
            getattr(self, name).eval()
        return self

    @property
    def main_name(self):
        """``Student``, or the last model that learns."""
        learning = [name for name in self.names if name not in self.frozen]
        return "Student" if "Student" in self.names else (learning or self.names)[-1]

    @property
    def main(self):
        return self.single(self.main_name)

    def main_logits(self, outputs):
        return outputs[self.main_name]

    def single(self, name):
        """One of the models as a recognizer over the same parameters."""
        return self.recognizers[name](*getattr(self, name))

    def forward(self, x):
        """Logits of every model, a dict name → ``(N, num_classes)``."""
        return {name: self.recognizers[name].average(getattr(self, name)(x)) for name in self.names}


def check_model(section, where="MODEL"):
    """Check names and arguments of a MODEL section without building it."""
    specs, _ = parse_section(section, where)
    for _, spec, at in specs:
        for part, registry in PARTS:
            name, arguments = split_name((spec or {}).get(part), f"{at}.{part}")
            registry.check(name, arguments, f"{at}.{part}")
    return section


def build_model(section, where="MODEL"):
    """Build the recognizer of a MODEL section.

    Raises:
        ConfigError: with the key path of an unknown name or argument, or of parts that do not fit.
    """
    check_model(section, where)
    specs, frozen = parse_section(section, where)
    models = {}
    for name, spec, at in specs:
        backbone, head = (registry.build_spec(spec[part], f"{at}.{part}") for part, registry in PARTS)
        framework = section["framework"] if name is None else backbone.recognizer
        models[name] = RECOGNIZERS.build(framework, {}, at, backbone=backbone, head=head)
    if section["framework"] != DISTILLATION:
        return models[None]
    return RECOGNIZERS.build(DISTILLATION, {}, where, models=models, frozen=frozen, loss=section.get("loss") or {})


def parse_section(section, where):
    """A MODEL section's models as ``[(name, spec, key path)]``, and the names of the frozen ones.

    A spec has a backbone and a head. The name of a single model is None.
    """
    if "framework" not in section:
        raise ConfigError(where, "has no key 'framework'", f"Known: {', '.join(RECOGNIZERS.classes)}")
    RECOGNIZERS.get(section["framework"], f"{where}.framework")
    if section["framework"] != DISTILLATION:
        return [(None, section, where)], []
    listed = section.get("models")
    if not isinstance(listed, list) or not listed or not all(isinstance(m, dict) and len(m) == 1 for m in listed):
        raise ConfigError(f"{where}.models", f"found {listed!r}, expected [{{Teacher: …}}, {{Student: …}}]")
    pairs = [next(iter(m.items())) for m in listed]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names) or not all(isinstance(n, str) and n.isidentifier() for n in names):
        raise ConfigError(f"{where}.models", f"the names {names} must be different identifiers")
    freeze = section.get("freeze_params_list", [False] * len(names))
    if not isinstance(freeze, list) or len(freeze) != len(names) or not all(isinstance(f, bool) for f in freeze):
        raise ConfigError(f"{where}.freeze_params_list", f"found {freeze!r}, expected true or false per model, "
                          f"{len(names)} in all")
    specs = [(name, spec, f"{where}.models.{i}.{name}") for i, (name, spec) in enumerate(pairs)]
    return specs, [name for name, frozen in zip(names, freeze) if frozen]
