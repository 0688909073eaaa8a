"""Temporal blocks of several branches, as CTR-GCN and ST-GCN++ have them."""
import numpy as np
import paddle
from paddle import nn

from .core import Conv, Fixed, folded, join, scale_and_shift, swapped


class Pool(Fixed):
    """Maximum over three frames, then a scale and a shift.

    The size of the scale is moved into the convolution before the pooling; only its sign cannot pass a maximum.
    """

    def __init__(self, pool, scale, shift):
        signs = np.where(scale < 0, -1.0, 1.0).reshape(-1, 1, 1)
        super().__init__(signs=None if (signs > 0).all() else signs,
                         shift=None if not shift.any() else shift.reshape(-1, 1, 1))
        self.arguments = {"kernel_size": swapped(pool.ksize), "stride": swapped(pool.stride),
                          "padding": swapped(pool.padding)}

    def forward(self, x):
        x = nn.functional.max_pool2d(x, **self.arguments)
        x = x if self.signs is None else x * self.signs
        return x if self.shift is None else x + self.shift


class Branches(nn.Layer):
    """Temporal branches: one pointwise convolution for those that begin with one, then each its own."""

    def __init__(self, entry, widths, lasts, point):
        super().__init__()
        self.entry, self.widths, self.lasts, self.point = entry, widths, nn.LayerList(lasts), point

    def forward(self, x):
        parts = nn.functional.relu(self.entry(x)).split(self.widths, axis=1)
        return paddle.concat([last(part) for last, part in zip(self.lasts, parts)] + [self.point(x)], axis=1)


def temporal_branches(branches, after, entries):
    """``Branches`` of a multi-scale temporal block.

    Args:
        branches: the block's layers; the last of them is the lone pointwise convolution.
        after: ``(scale, shift)`` behind each branch.
        entries: the last layer of each branch but the lone one, a convolution or a pooling.
    """
    pairs, lasts = [], []
    for branch, last, (scale, shift) in zip(branches, entries, after):
        weight, bias = folded(branch[0], scale_and_shift(branch[1]))
        if isinstance(last, nn.MaxPool2D):
            size = np.abs(scale)
            weight, bias = weight * size[:, None, None, None], bias * size
            lasts.append(Pool(last, scale, shift))
        else:
            lasts.append(Conv.of(last, (scale, shift)))
        pairs.append((weight, bias))
    widths = [len(bias) for _, bias in pairs]
    return Branches(Conv(*join(*pairs)), widths, lasts, Conv.of(branches[-1], after[-1]))
