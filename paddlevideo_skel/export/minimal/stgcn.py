"""Rewrites of ST-GCN."""
from ...models import stgcn
from .core import (
    Conv,
    MinimalBackbone,
    fold_data_bn,
    minimise_graph,
    minimise_unit,
    rewrites,
    scale_and_shift,
    to_float64,
)


@rewrites(stgcn.STGCN)
def stgcn_backbone(layer):
    units = [minimise_stgcn_unit(unit, to_float64(A)) for unit, A in zip(layer.st_gcn_networks, layer.graphs())]
    return MinimalBackbone((0, 4, 1, 3, 2), *fold_data_bn(layer), units)


def minimise_stgcn_unit(unit, A):
    """``MinimalUnit`` of a unit and the adjacency ``(K, V, V)`` that it uses."""
    before, _, conv, after, _ = unit.tcn
    return minimise_unit(unit, minimise_graph(A, unit.gcn.conv, before), Conv.of(conv, scale_and_shift(after)))
