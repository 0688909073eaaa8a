"""Recognizers: a backbone and a head; or several of them that learn together."""
from paddle import nn

from ..errors import ConfigError
from .layers import RECOGNIZERS


@RECOGNIZERS.register
class RecognizerGCN(nn.Layer):
    """Backbone and head: ``(N, …) → (N, num_classes)``; logits of several clips are averaged.

    As in pyskl and PaddleVideo, a backbone that takes clips gives one row of logits for each, and their mean is
    the answer.
    """

    def __init__(self, backbone, head):
        super().__init__()
        if backbone.out_channels != head.features:
            raise ValueError(f"the head takes {head.features} features, the backbone gives {backbone.out_channels}; "
                             f"set the head's in_channels to fit")
        self.backbone, self.head = backbone, head

    def forward(self, x):
        logits = self.head(self.backbone(x))
        return logits.mean(axis=1) if logits.ndim == 3 else logits


@RECOGNIZERS.register
class RecognizerDistillation(nn.Layer):
    """Several named models on one input, for distillation and mutual learning.

    Each model is a ``Sequential`` of backbone and head, which gives the keys ``Teacher.0.*`` and ``Teacher.1.*``.
    A frozen model keeps to evaluation mode throughout and gets no gradients. (PaddleVideo leaves its BatchNorm in
    training mode, so that its frozen teacher drifts.)

    Args:
        models: dict name → ``RecognizerGCN``.
        frozen: names of the models that do not learn.
        loss: the config's ``loss`` section, kept for the trainer.
    """

    def __init__(self, models, frozen, loss):
        super().__init__()
        self.names, self.frozen, self.loss = list(models), set(frozen), loss
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
        """One of the models as a ``RecognizerGCN`` over the same parameters."""
        backbone, head = getattr(self, name)
        return RecognizerGCN(backbone, head)

    def forward(self, x):
        """Logits of every model, a dict name → ``(N, num_classes)``."""
        logits = {name: getattr(self, name)(x) for name in self.names}
        return {name: y.mean(axis=1) if y.ndim == 3 else y for name, y in logits.items()}


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
