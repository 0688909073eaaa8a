"""CTR-GCN's and CTR-GCN-Lite's rewrites."""
import numpy as np
import paddle
from paddle import nn

from ...models import ctrgcn
from .core import (
    Backbone,
    Conv,
    GraphConv,
    block,
    by_channel,
    data_scale,
    folded,
    join,
    minimal,
    numbers,
    rewrites,
    scale_and_shift,
)
from .temporal import temporal_branches

ALWAYS_ONE = 20.0  # tanh of it is 1 in float32, and in half precision


class RefinedGraph(GraphConv):
    """CTR-GCN's three refined graph convolutions and the residual: ``(N, C, V, T) → (N, C', V, T)``.

    ``query`` and ``key`` make of the mean over time ``(N, K·(R + 1), V, 1)``: R relations for each graph, and one that
    is 1 after the tanh, for the bias. ``refine (K, C', R + 1)`` weighs them; the shared graph is ``A (K, V·V)``.
    """

    def __init__(self, values, shift, residual, query, key, **arrays):
        super().__init__(values, shift, residual, **arrays)
        self.query, self.key = query, key

    def topology(self, x):
        # Not mean(), for which oneDNN has no fast way in the layout of convolutions.
        mean = nn.functional.avg_pool2d(x, (1, x.shape[3]))
        query, key = self.query(mean).transpose([0, 1, 3, 2]), self.key(mean)
        joints = key.shape[2]
        subsets, width, relations = self.refine.shape
        # Both as large as the result: a difference that broadcasts both sides takes oneDNN's slowest way. Not by
        # expand(), which paddle2onnx writes at opset 11 in a way that leaves all shapes unknown.
        relation = paddle.tanh(query.tile([1, 1, joints, 1]) - key.tile([1, 1, 1, joints]))
        relation = relation.reshape([-1, subsets, relations, joints ** 2])
        topology = paddle.matmul(self.refine, relation).transpose([0, 2, 1, 3]) + self.A
        return topology.reshape([-1, width, subsets * joints, joints])


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
    values, bias = join(*(folded(conv.conv3, (scale, np.zeros_like(shift))) for conv in layer.convs))
    residual, shift = "identity", shift.reshape(-1, 1, 1)
    if layer.down is not None:
        weight, constant = folded(layer.down[0], scale_and_shift(layer.down[1]))
        residual, shift = Conv(weight, constant + shift.ravel()), None
    queries, keys = (relations([folded(getattr(conv, name)) for conv in layer.convs], one)
                     for name, one in (("conv1", ALWAYS_ONE), ("conv2", 0.0)))
    # Only the difference of query and key is used: the query's bias can hold both.
    query, key = Conv(queries[0], queries[1] - keys[1]), Conv(keys[0])
    refine = [folded(conv.conv4) for conv in layer.convs]
    refine = [np.column_stack([alpha * weight[:, :, 0, 0], alpha * bias]) for weight, bias in refine]
    return RefinedGraph(Conv(by_channel(values, len(A)), by_channel(bias, len(A))), shift, residual, query, key,
                        refine=np.stack(refine), A=A.transpose(0, 2, 1).reshape(len(A), -1))


def relations(pairs, one):
    """Weight and bias of several convolutions as one's, each with one more row that is ``one`` for every input."""
    return join(*((np.concatenate([weight, np.zeros_like(weight[:1])]), np.append(bias, one))
                  for weight, bias in pairs))


@rewrites(ctrgcn.Unit)
def ctrgcn_unit(unit):
    return block(unit, minimal(unit.gcn1), minimal(unit.tcn1))


@rewrites(ctrgcn.CTRGCN)
def ctrgcn_backbone(layer):
    units = [getattr(layer, f"l{unit}") for unit in range(1, layer.num_units + 1)]
    return Backbone((0, 4, 1, 3, 2), *data_scale(layer), [minimal(unit) for unit in units])
