"""ST-GCN++'s rewrites."""
import numpy as np
import paddle
from paddle import nn

from ...models import stgcn_plusplus
from .core import Backbone, Conv, Fixed, block, data_scale, folded, minimal, numbers, rewrites, scale_and_shift
from .temporal import temporal_branches


class Mixed(nn.Layer):
    """Branches, then a convolution of them all: ST-GCN++'s temporal block."""

    def __init__(self, branches, mix):
        super().__init__()
        self.branches, self.mix = branches, mix

    def forward(self, x):
        return self.mix(nn.functional.relu(self.branches(x)))


class FixedGraph(nn.Layer):
    """ST-GCN++'s graph convolution: the products with the adjacency first, then one convolution of them all."""

    def __init__(self, adjacency, conv, shift, residual):
        super().__init__()
        self.adjacency, self.conv, self.residual = nn.LayerList([Fixed(A=A) for A in adjacency]), conv, residual
        self.last = Fixed(shift=shift)

    def forward(self, x):
        channels, frames, joints = x.shape[1:]
        # Reshaped for oneDNN too: in Paddle 3.3 its matrix product misreads the blocked layout of a convolution's
        # result, and a reshape brings that back to the plain one.
        flat = x.reshape([-1, channels * frames, joints])
        parts = [paddle.matmul(flat, subset.A) for subset in self.adjacency]
        parts = paddle.concat([*parts, flat] if self.residual == "conv" else parts, axis=1)
        y = self.conv(parts.reshape([-1, self.conv.weight.shape[1], frames, joints])) + self.last.shift
        return nn.functional.relu(y + x if self.residual == "identity" else y)


@rewrites(stgcn_plusplus.MultiScaleTemporalConv)
def stgcn_plusplus_time(layer):
    *branches, point = layer.branches
    entries = [getattr(branch[3], "conv", branch[3]) for branch in branches]
    widths = [branch[0].weight.shape[0] for branch in branches] + [point.weight.shape[0]]
    scale, shift = scale_and_shift(layer.transform[0])
    ends = np.cumsum(widths)
    after = [(scale[end - width:end], shift[end - width:end]) for end, width in zip(ends, widths)]
    return Mixed(temporal_branches([*branches, point], after, entries),
                 Conv.of(layer.transform[2], scale_and_shift(layer.bn)))


@rewrites(stgcn_plusplus.GraphConv)
def stgcn_plusplus_graph(layer):
    A = numbers(layer.graph())
    scale, shift = scale_and_shift(layer.bn)
    weight, bias = folded(layer.conv, (np.tile(scale, len(A)), np.zeros(len(A) * len(scale))))
    weights = np.split(weight, len(A))
    # A convolution's bias reaches joint v once for every joint that sends to it.
    constant = shift[:, None] + sum(np.outer(b, a.sum(axis=0)) for b, a in zip(np.split(bias, len(A)), A))
    residual = None
    if layer.with_res:
        residual = "identity" if layer.down is None else "conv"
    if residual == "conv":
        down, down_bias = folded(layer.down[0], scale_and_shift(layer.down[1]))
        weights.append(down)
        constant = constant + down_bias[:, None]
    return FixedGraph(A, Conv(np.concatenate(weights, axis=1)), constant[:, None], residual)


@rewrites(stgcn_plusplus.Block)
def stgcn_plusplus_block(unit):
    return block(unit, unit.gcn, unit.tcn)


@rewrites(stgcn_plusplus.STGCNPlusPlus)
def stgcn_plusplus_backbone(layer):
    return Backbone((0, 1, 2, 5, 3, 4), *data_scale(layer), [minimal(unit) for unit in layer.gcn])
