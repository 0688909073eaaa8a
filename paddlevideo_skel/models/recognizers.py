"""Recognizers: a backbone and a head; or several of them that learn together."""
import math

import paddle
from paddle import nn

from ..errors import ConfigError
from .layers import RECOGNIZERS


class Recognizer(nn.Layer):
    """Backbone and head: ``(N, …) → (N, num_classes)``; subclasses give ``average(logits)``.

    A backbone that takes clips gives one row of logits for each, of which ``average`` makes one.
    """

    def __init__(self, backbone, head):
        super().__init__()
        for part in (backbone, head):
            if part.recognizer != type(self).__name__:
                raise ValueError(f"{type(part).__name__} does not belong here; set framework: {part.recognizer}")
        if backbone.out_channels != head.features:
            raise ValueError(f"the head takes {head.features} features, the backbone gives {backbone.out_channels}; "
                             f"set the head's in_channels to fit")
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.average(self.head(self.backbone(x)))


@RECOGNIZERS.register
class RecognizerGCN(Recognizer):
    """The mean over clips is one of logits, as in pyskl and PaddleVideo."""

    @staticmethod
    def average(logits):
        """``(N, clips, num_classes)`` or ``(N, num_classes) → (N, num_classes)``."""
        return logits.mean(axis=1) if logits.ndim == 3 else logits


@RECOGNIZERS.register
class Recognizer3D(Recognizer):
    """The mean over clips is one of scores, as in PoseC3D: the softmax of the answer is the mean of their softmax.

    In training too: the loss of a sample with several clips is that of its mean score.
    """

    @staticmethod
    def average(logits):
        """``(N, clips, num_classes)`` or ``(N, num_classes) → (N, num_classes)``; one clip's logits stay as they are.

        Of several clips it is log(mean(softmax)), by way of logarithms, so that no small score becomes log(0).
        """
        if logits.ndim == 2:
            return logits
        if logits.shape[1] == 1:
            return logits.squeeze(1)
        # Not by log_softmax, which Paddle cuts off at -64 on CPUs, and no other runtime does.
        scores = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        return paddle.logsumexp(scores, axis=1) - math.log(logits.shape[1])


@RECOGNIZERS.register
class RecognizerDistillation(nn.Layer):
    """Several named models on one input, for distillation and mutual learning.

    Each model is a ``Sequential`` of backbone and head, which gives the keys ``Teacher.0.*`` and ``Teacher.1.*``.
    A frozen model keeps to evaluation mode throughout and gets no gradients. (PaddleVideo leaves its BatchNorm in
    training mode, so that its frozen teacher drifts.)

    Args:
        models: dict name → ``RecognizerGCN`` or ``Recognizer3D``.
        frozen: names of the models that do not learn.
        loss: the config's ``loss`` section, kept for the trainer.
    """

    def __init__(self, models, frozen, loss):
        super().__init__()
        self.names, self.frozen, self.loss = list(models), set(frozen), loss
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
    def student_name(self):
        """The model that is tested and exported: ``Student``, or the last that learns."""
        learning = [name for name in self.names if name not in self.frozen]
        return "Student" if "Student" in self.names else (learning or self.names)[-1]

    @property
    def student(self):
        return self.single(self.student_name)

    def single(self, name):
        """One of the models as a recognizer over the same parameters."""
        return self.recognizers[name](*getattr(self, name))

    def forward(self, x):
        """Logits of every model, a dict name → ``(N, num_classes)``."""
        return {name: self.recognizers[name].average(getattr(self, name)(x)) for name in self.names}


def parse_models(section, where):
    """The ``models`` list of a distillation config as ``[(name, spec)]``, and the names of the frozen ones."""
    listed = section.get("models")
    if not isinstance(listed, list) or not listed or not all(isinstance(m, dict) and len(m) == 1 for m in listed):
        raise ConfigError(f"{where}.models", f"found {listed!r}, expected [{{Teacher: …}}, {{Student: …}}]")
    pairs = [next(iter(m.items())) for m in listed]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names) or not all(isinstance(n, str) and n.isidentifier() for n in names):
        raise ConfigError(f"{where}.models", f"the names {names} are not all different, plain names")
    freeze = section.get("freeze_params_list", [False] * len(names))
    if not isinstance(freeze, list) or len(freeze) != len(names) or not all(isinstance(f, bool) for f in freeze):
        raise ConfigError(f"{where}.freeze_params_list", f"found {freeze!r}, expected {len(names)} times true or false")
    return pairs, [name for name, frozen in zip(names, freeze) if frozen]
