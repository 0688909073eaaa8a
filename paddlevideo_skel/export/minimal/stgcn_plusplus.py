"""Rewrites of ST-GCN++."""
import numpy as np
from paddle import nn

from ...models import stgcn_plusplus
from .core import (
    Conv,
    MinimalBackbone,
    fold_data_bn,
    minimise,
    minimise_branches,
    minimise_graph,
    minimise_unit,
    rewrites,
    scale_and_shift,
    to_float64,
)


class Mixed(nn.Layer):
    """Branches, then a convolution of them all: ST-GCN++'s temporal block."""

    def __init__(self, branches, mix):
        super().__init__()
        self.branches, self.mix = branches, mix

    def forward(self, x):
        return self.mix(nn.functional.relu(self.branches(x)))


@rewrites(stgcn_plusplus.MultiBranchTemporalConv)
def stgcn_plusplus_time(layer):
    *branches, point = layer.branches
    entries = [branch[3] if isinstance(branch[3], nn.MaxPool2D) else branch[3].conv for branch in branches]
    widths = [branch[0].weight.shape[0] for branch in branches] + [point.weight.shape[0]]
    scale, shift = scale_and_shift(layer.transform[0])
    ends = np.cumsum(widths)
    after = [(scale[end - width:end], shift[end - width:end]) for end, width in zip(ends, widths)]
    return Mixed(minimise_branches([*branches, point], after, entries),
                 Conv.of(layer.transform[2], scale_and_shift(layer.bn)))


@rewrites(stgcn_plusplus.SingleScaleTemporalConv)
def stgcn_plusplus_single_time(layer):
    return Conv.of(layer.conv, scale_and_shift(layer.bn))


@rewrites(stgcn_plusplus.AdaptiveGraphConv)
def stgcn_plusplus_graph(layer):
    residual = None
    if layer.with_res:
        residual = "identity" if layer.down is None else Conv.of(layer.down[0], scale_and_shift(layer.down[1]))
    return minimise_graph(to_float64(layer.graph()), layer.conv, layer.bn, residual)


@rewrites(stgcn_plusplus.STGCNPlusPlusUnit)
def stgcn_plusplus_block(unit):
    return minimise_unit(unit, minimise(unit.gcn), minimise(unit.tcn))


@rewrites(stgcn_plusplus.STGCNPlusPlus)
def stgcn_plusplus_backbone(layer):
    return MinimalBackbone((0, 1, 2, 5, 4, 3), *fold_data_bn(layer), [minimise(unit) for unit in layer.gcn])
