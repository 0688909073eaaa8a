"""ST-GCN's rewrites."""
from ...models import stgcn
from .core import Conv, MinimalBackbone, block, data_scale, fixed_graph, numbers, rewrites, scale_and_shift


@rewrites(stgcn.STGCN)
def stgcn_backbone(layer):
    units = [stgcn_unit(unit, numbers(A)) for unit, A in zip(layer.st_gcn_networks, layer.graphs())]
    return MinimalBackbone((0, 4, 1, 3, 2), *data_scale(layer), units)


def stgcn_unit(unit, A):
    """``MinimalUnit`` of a unit and the adjacency ``(K, V, V)`` that it uses."""
    before, _, conv, after, _ = unit.tcn
    return block(unit, fixed_graph(A, unit.gcn.conv, before), Conv.of(conv, scale_and_shift(after)))
