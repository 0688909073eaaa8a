"""Whole recognizers."""
import math

import paddle

from ...errors import ExportError
from ...models.heads import PooledHead
from ...models.recognizers import Recognizer3D, RecognizerGCN
from .core import Fixed, minimal, numbers, rewrites


class MinimalRecognizer(Fixed):
    """Backbone, mean, linear layer. The mean over clips is taken before the linear layer, which is the same."""

    def __init__(self, backbone, sequence_axes, weight, bias):
        super().__init__(weight=weight, bias=bias)
        self.backbone, self.sequence_axes = backbone, sequence_axes

    def forward(self, x):
        sequences = math.prod(x.shape[axis] for axis in self.sequence_axes)
        y = self.backbone(x)
        y = y.reshape([-1, sequences, y.shape[1], y.shape[2] * y.shape[3]]).mean(axis=3)
        return paddle.matmul(y.mean(axis=1), self.weight) + self.bias


@rewrites(RecognizerGCN)
def recognizer(model):
    if not isinstance(model.head, PooledHead):
        raise ExportError(type(model.head).__name__, "has no minimal form", "Use the ordinary export")
    fc = getattr(model.head, model.head.linear)
    return MinimalRecognizer(minimal(model.backbone), model.backbone.sequence_axes, numbers(model.head.linear_weight()),
                      numbers(fc.bias))


class ClipRecognizer(Fixed):
    """Backbone, mean over frames, height and width, linear layer, mean of the clips' scores."""

    def __init__(self, backbone, weight, bias):
        super().__init__(weight=weight, bias=bias)
        self.backbone = backbone

    def forward(self, x):
        clips = x.shape[1:-4]
        y = self.backbone(x).mean(axis=[-2, -1])
        logits = paddle.matmul(y.mean(axis=1), self.weight) + self.bias
        return Recognizer3D.average(logits.reshape([-1, *clips, logits.shape[1]]))


@rewrites(Recognizer3D)
def clip_recognizer(model):
    return ClipRecognizer(minimal(model.backbone), numbers(model.head.linear_weight()), numbers(model.head.fc.bias))
