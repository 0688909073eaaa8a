"""Heads: pooled features to logits."""
import math

from paddle import nn
from paddle.nn.initializer import Constant, Normal

from .layers import HEADS


class PooledHead(nn.Layer):
    """Mean over frames and joints, then over persons, dropout, one linear layer.

    ``(..., M, C, T, V) → (..., num_classes)``.

    Args:
        num_classes: number of classes.
        features: width of the backbone's output.
        dropout: share of features dropped in training.
        std: standard deviation of the linear layer's initial weights; None: sqrt(2 / num_classes).
        ls_eps: label smoothing of the loss, kept for the trainer.
    """

    linear = "fc"

    def __init__(self, num_classes, features, dropout, std, ls_eps=0.0):
        super().__init__()
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes is {num_classes!r}, expected a positive whole number")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout!r}, expected 0 <= dropout < 1")
        if not 0 <= ls_eps < 1:
            raise ValueError(f"ls_eps is {ls_eps!r}, expected 0 <= ls_eps < 1")
        self.num_classes, self.features, self.ls_eps = num_classes, features, ls_eps
        self.drop = nn.Dropout(dropout) if dropout else None
        fc = nn.Linear(features, num_classes)
        Normal(0.0, math.sqrt(2.0 / num_classes) if std is None else std)(fc.weight)
        Constant(0.0)(fc.bias)
        setattr(self, self.linear, fc)

    def forward(self, x):
        x = x.mean(axis=[-2, -1]).mean(axis=-2)
        if self.drop is not None:
            x = self.drop(x)
        return getattr(self, self.linear)(x)


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
