"""Heads: pooled features to logits."""
import math

import paddle
from paddle import nn
from paddle.nn.initializer import Constant, Normal

from .layers import HEADS


class PooledHead(nn.Layer):
    """Mean over frames and joints, then over persons; dropout; one linear layer.

    ``(..., M, C, T, V) → (..., num_classes)``.

    Args:
        num_classes: number of classes.
        features: width of the backbone's output.
        dropout: fraction of features dropped in training.
        std: standard deviation of the linear layer's initial weights; None: sqrt(2 / num_classes).
        ls_eps: label smoothing of the loss, for the trainer.
    """

    recognizer = "RecognizerGCN"
    linear = "fc"

    def __init__(self, num_classes, features, dropout, std, ls_eps=0.0):
        super().__init__()
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes is {num_classes!r}, expected a positive integer")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout!r}, expected 0 <= dropout < 1")
        if not 0 <= ls_eps < 1:
            raise ValueError(f"ls_eps is {ls_eps!r}, expected 0 <= ls_eps < 1")
        self.num_classes, self.features, self.ls_eps = num_classes, features, ls_eps
        self.drop = nn.Dropout(dropout) if dropout else None
        fc = self.new_linear()
        Normal(0.0, math.sqrt(2.0 / num_classes) if std is None else std)(fc.weight)
        Constant(0.0)(fc.bias)
        setattr(self, self.linear, fc)

    def forward(self, x):
        x = self.pool(x)
        if self.drop is not None:
            x = self.drop(x)
        return self.classify(x)

    def pool(self, x):
        """``(..., M, C, T, V) → (..., C)``."""
        return x.mean(axis=[-2, -1]).mean(axis=-2)

    def new_linear(self):
        """Make the linear layer."""
        return nn.Linear(self.features, self.num_classes)

    def linear_weight(self):
        """The linear layer's weight, ``(features, num_classes)``."""
        return getattr(self, self.linear).weight

    def classify(self, x):
        """``(..., features) → (..., num_classes)``."""
        return getattr(self, self.linear)(x)


@HEADS.register
class STGCNHead(PooledHead):
    """ST-GCN's head: its linear layer is stored as a pointwise convolution, as in the authors' code and PaddleVideo."""

    linear = "fcn"

    def __init__(self, in_channels=256, num_classes=10, ls_eps=0.0):
        super().__init__(num_classes, in_channels, 0.0, 0.02, ls_eps)

    def new_linear(self):
        return nn.Conv2D(self.features, self.num_classes, 1)

    def linear_weight(self):
        return self.fcn.weight.reshape([self.num_classes, self.features]).transpose([1, 0])

    def classify(self, x):
        return nn.functional.linear(x, self.linear_weight(), self.fcn.bias)


@HEADS.register
class STGCNPlusPlusHead(PooledHead):
    """ST-GCN++'s head, ``in_channels`` features wide."""

    linear = "fc_cls"

    def __init__(self, num_classes=10, in_channels=256, dropout=0.0, init_std=0.01, ls_eps=0.0):
        super().__init__(num_classes, in_channels, dropout, init_std, ls_eps)


@HEADS.register
class CTRGCNHead(PooledHead):
    """CTR-GCN's head. ``in_channels`` is the backbone's base width; its output is four times as wide."""

    def __init__(self, num_classes=10, in_channels=64, drop_out=0.0, ls_eps=0.0):
        super().__init__(num_classes, in_channels * 4, drop_out, None, ls_eps)


@HEADS.register
class I3DHead(PooledHead):
    """PoseC3D's head: mean over frames, height and width, dropout, one linear layer.

    ``(..., C, T, H, W) → (..., num_classes)``. As in PaddleVideo, the linear layer has ten times the learning rate.

    Args:
        in_channels: width of the backbone's output. spatial_type: only ``avg``. drop_ratio: dropout.
        std: standard deviation of the linear layer's initial weights.
    """

    recognizer = "Recognizer3D"

    def __init__(self, num_classes, in_channels=512, spatial_type="avg", drop_ratio=0.5, std=0.01, ls_eps=0.0):
        if spatial_type != "avg":
            raise ValueError(f"spatial_type is {spatial_type!r}, expected 'avg'")
        super().__init__(num_classes, in_channels, drop_ratio, std, ls_eps)

    def pool(self, x):
        return x.mean(axis=[-3, -2, -1])

    def new_linear(self):
        faster = paddle.ParamAttr(learning_rate=10.0)
        return nn.Linear(self.features, self.num_classes, weight_attr=faster, bias_attr=faster)
