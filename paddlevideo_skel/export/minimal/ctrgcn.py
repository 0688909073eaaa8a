"""Rewrites of CTR-GCN and CTR-GCN-Lite."""
import numpy as np
import paddle
from paddle import nn

from ...models import ctrgcn
from .core import (
    Conv,
    MinimalBackbone,
    MinimalGraphConv,
    Pointwise,
    by_channel,
    fold,
    fold_data_bn,
    join_convolutions,
    minimise,
    minimise_branches,
    minimise_unit,
    rewrites,
    scale_and_shift,
    to_float64,
)

ALWAYS_ONE = 20.0  # tanh of it is 1 in float32, and in half precision


class RefinedGraph(MinimalGraphConv):
    """CTR-GCN's three refined graph convolutions and the residual: ``(N, C, V, T) → (N, C', V, T)``.

    ``pair`` makes of the mean over time ``(N, K·R·2, V, 1)``: query and negative key of R relations for each of the K
    graphs. The last relation but one is 1, for the bias; the last is ``A (K, 1, V·V)``, a multiple of the shared graph.
    ``refine (C', K, 1, R)`` weighs them.
    """

    def __init__(self, values, shift, residual, pair, refine, A):
        width, subsets, _, relations = refine.shape
        joints = round(A.shape[-1] ** 0.5)
        super().__init__(values, shift, residual, refine=refine, A=A, last=np.eye(relations)[-1:].T,
                         blocks=np.eye(subsets)[:, :, None], sums=all_sums(joints))
        self.pair = pair
        self.sizes = width, subsets, subsets * relations, joints

    def topology(self, x):
        width, subsets, rows, joints = self.sizes
        # Not mean(), for which oneDNN has no fast kernel in the layout of convolutions.
        mean = nn.functional.avg_pool2d(x, (1, x.shape[3]))
        # Not a difference that broadcasts both sides: it is oneDNN's slowest path, and ONNX Runtime uses one core for
        # it.
        pairs = self.pair(mean).reshape([-1, rows, 2 * joints])
        relations = paddle.tanh(paddle.matmul(pairs, self.sums.cast("float32")))
        # The graph is added to the relations, and not to the topology, which is much larger. What is made of constants
        # runtimes compute when they open the model.
        relations = relations + (self.A * self.last).reshape([rows, -1])
        # One product with a block matrix: separate products per graph would need a transposition, which
        # takes longer than to multiply with zeros.
        refine = (self.refine * self.blocks).reshape([width * subsets, rows])
        return paddle.matmul(refine, relations).reshape([-1, width, subsets * joints, joints])


def all_sums(joints):
    """``(2V, V·V)``: computes all pairwise sums of V numbers and V other numbers."""
    eye, ones = np.eye(joints, dtype="uint8"), np.ones((1, joints), "uint8")
    return np.concatenate([np.kron(ones, eye), np.kron(eye, ones)])


@rewrites(ctrgcn.MultiScaleTemporalConv)
def ctrgcn_time(layer):
    *branches, point = layer.branches
    convs = [branch[-1] for branch in branches[:-1]]
    entries = [conv.conv for conv in convs] + [branches[-1][3]]
    after = [scale_and_shift(bn) for bn in (*(conv.bn for conv in convs), branches[-1][4], point[1])]
    joined = minimise_branches([*branches, point[0]], after, entries)
    return nn.Sequential(joined, nn.ReLU()) if layer.act else joined


@rewrites(ctrgcn.RefinedGraphConv)
def ctrgcn_graph(layer):
    A = to_float64(layer.PA if layer.adaptive else layer.A)
    alpha = float(to_float64(layer.alpha)[0])
    scale, shift = scale_and_shift(layer.bn)
    values, bias = join_convolutions(*(fold(conv.conv3, (scale, np.zeros_like(shift))) for conv in layer.convs))
    residual, shift = "identity", shift.reshape(1, -1, 1, 1)
    if layer.down is not None:
        weight, constant = fold(layer.down[0], scale_and_shift(layer.down[1]))
        residual, shift = Conv(weight, constant + shift.ravel()), None
    queries, keys = (join_relations([fold(getattr(conv, name)) for conv in layer.convs], one)
                     for name, one in (("conv1", ALWAYS_ONE), ("conv2", 0.0)))
    pair = Conv(*(by_channel(np.concatenate([query, -key]), 2) for query, key in zip(queries, keys)))
    refine = [fold(conv.conv4) for conv in layer.convs]
    refine = [alpha * np.column_stack([weight[:, :, 0, 0], bias]) for weight, bias in refine]
    # The graph's weight is between its own size and that of the others, so that 8 bits can represent all of them;
    # as a power of two it changes no float32.
    weigh = 2.0 ** np.round(np.log2(max(np.abs(refine).max(), 2.0 ** -8)) / 2)
    refine = [np.pad(weights, ((0, 0), (0, 1)), constant_values=weigh) for weights in refine]
    return RefinedGraph(Pointwise(by_channel(values, len(A)), by_channel(bias, len(A))), shift, residual, pair,
                        -np.stack(refine, axis=1)[:, :, None], A.transpose(0, 2, 1).reshape(len(A), 1, -1) / weigh)


def join_relations(pairs, one):
    """Merged weight and bias of several convolutions, each with two extra rows, ``one`` and 0 for every input."""
    return join_convolutions(*((np.concatenate([weight, np.zeros_like(weight[:2])]), np.append(bias, [one, 0.0]))
                  for weight, bias in pairs))


@rewrites(ctrgcn.CTRGCNUnit)
def ctrgcn_unit(unit):
    return minimise_unit(unit, minimise(unit.gcn1), minimise(unit.tcn1))


@rewrites(ctrgcn.CTRGCN)
def ctrgcn_backbone(layer):
    units = [minimise(getattr(layer, f"l{unit}")) for unit in range(1, layer.num_units + 1)]
    for unit in units:  # the same constant, so that the file stores it once
        unit.graph.sums = units[0].graph.sums
    return MinimalBackbone((0, 4, 1, 3, 2), *fold_data_bn(layer), units)
