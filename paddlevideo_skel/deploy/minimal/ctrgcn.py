"""CTR-GCN's and CTR-GCN-Lite's rewrites."""
import numpy as np
import paddle
from paddle import nn

from ...models import ctrgcn
from .core import Backbone, Conv, Fixed, block, data_scale, folded, join, minimal, numbers, rewrites, scale_and_shift
from .temporal import temporal_branches


class RefinedGraph(Fixed):
    """CTR-GCN's three refined graph convolutions and the residual: ``(N, C, T, V) → (N, C', T, V)``.

    ``values`` makes the three inputs of the products and, where the residual is a convolution, that too;
    ``features`` the three queries and the three keys.
    """

    def __init__(self, values, features, refine, A, shift, residual):
        super().__init__(A=A, shift=shift)
        self.values, self.features, self.refine, self.residual = values, features, refine, residual

    def forward(self, x):
        query, key = self.features(x.mean(axis=2, keepdim=True)).split(2, axis=1)
        topology = self.refine(paddle.tanh(query - key.transpose([0, 1, 3, 2])))
        subsets, frames, joints = self.A.shape[0], x.shape[2], x.shape[3]
        width = topology.shape[1] // subsets
        values, residual = self.values(x), x
        if self.residual:
            values, residual = values.split([subsets * width, width], axis=1)
        # The sum over subsets is part of one matrix product, (T, K·V) by (K·V, V).
        topology = (topology.reshape([-1, subsets, width, joints, joints]) + self.A).transpose([0, 2, 1, 3, 4])
        values = values.reshape([-1, subsets, width, frames, joints]).transpose([0, 2, 3, 1, 4])
        y = paddle.matmul(values.reshape([-1, width, frames, subsets * joints]),
                          topology.reshape([-1, width, subsets * joints, joints])) + residual
        return nn.functional.relu(y if self.shift is None else y + self.shift)


@rewrites(ctrgcn.MultiScaleTemporalConv)
def ctrgcn_time(layer):
    *branches, point = layer.branches
    convs = [branch[-1] for branch in branches[:-1]]
    entries = [conv.conv for conv in convs] + [branches[-1][3]]
    after = [scale_and_shift(bn) for bn in (*(conv.bn for conv in convs), branches[-1][4], point[1])]
    joined = temporal_branches([*branches, point[0]], after, entries)
    return nn.Sequential(joined, nn.ReLU()) if layer.act else joined


@rewrites(ctrgcn.GraphConv)
def ctrgcn_graph(layer):
    A = numbers(layer.PA if layer.adaptive else layer.A)
    alpha = float(numbers(layer.alpha)[0])
    scale, shift = scale_and_shift(layer.bn)
    no_shift = np.zeros_like(shift)
    values = [folded(conv.conv3, (scale, no_shift)) for conv in layer.convs]
    if layer.down is not None:
        weight, bias = folded(layer.down[0], scale_and_shift(layer.down[1]))
        values.append((weight, bias + shift))
    queries, keys = ([folded(getattr(conv, name)) for conv in layer.convs] for name in ("conv1", "conv2"))
    # Only the difference of query and key is used: the query's bias can hold both.
    queries = [(weight, bias - other) for (weight, bias), (_, other) in zip(queries, keys)]
    keys = [(weight, np.zeros_like(bias)) for weight, bias in keys]
    refine = join(*((weight * alpha, bias * alpha) for weight, bias in (folded(conv.conv4) for conv in layer.convs)))
    return RefinedGraph(Conv(*join(*values)), Conv(*join(*queries, *keys)), Conv(*refine, groups=len(A)),
                        A.transpose(0, 2, 1)[:, None], shift.reshape(-1, 1, 1) if layer.down is None else None,
                        layer.down is not None)


@rewrites(ctrgcn.Unit)
def ctrgcn_unit(unit):
    return block(unit, minimal(unit.gcn1), minimal(unit.tcn1))


@rewrites(ctrgcn.CTRGCN)
def ctrgcn_backbone(layer):
    units = [getattr(layer, f"l{unit}") for unit in range(1, layer.num_units + 1)]
    return Backbone((0, 4, 1, 2, 3), *data_scale(layer), [minimal(unit) for unit in units])
