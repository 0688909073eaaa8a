"""Whole recognizers."""
import math

import paddle

from ...errors import ExportError
from ...models.heads import PooledHead
from ...models.recognizers import RecognizerGCN
from .core import Fixed, minimal, numbers, rewrites


class Recognizer(Fixed):
    """Backbone, mean, linear layer. The mean over clips is taken before the linear layer, which is the same."""

    def __init__(self, backbone, sequence_axes, weight, bias):
        super().__init__(weight=weight, bias=bias)
        self.backbone, self.sequence_axes = backbone, sequence_axes

    def forward(self, x):
        sequences = math.prod(x.shape[axis] for axis in self.sequence_axes)
        y = self.backbone(x).mean(axis=[2, 3])
        return paddle.matmul(y.reshape([-1, sequences, y.shape[1]]).mean(axis=1), self.weight) + self.bias


@rewrites(RecognizerGCN)
def recognizer(model):
    if not isinstance(model.head, PooledHead):
        raise ExportError(type(model.head).__name__, "has no minimal form", "Use the ordinary export")
    fc = getattr(model.head, model.head.linear)
    return Recognizer(minimal(model.backbone), model.backbone.sequence_axes, numbers(fc.weight), numbers(fc.bias))
