"""ST-GCN (Yan et al., "Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition", 2018)."""
import paddle
from paddle import nn
from paddle.nn.initializer import Constant, Normal

from ..skeleton import adjacency, get_layout
from .layers import BACKBONES, Conv2D, JointsBackbone, ResidualUnit, conv1x1, persons_to_batch, send_along

# (channels, stride over time) of the ten units
UNITS = ((64, 1), (64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
KERNEL = 9


class SpatialGraphConv(nn.Layer):
    """Spatial graph convolution (equation 10 of the paper): ``(N, C, T, V) → (N, C', T, V)``."""

    def __init__(self, in_channels, out_channels, num_subsets):
        super().__init__()
        self.conv = conv1x1(in_channels, out_channels * num_subsets)

    def forward(self, x, A):
        """``A (K, V, V)``: the adjacency, weighted by the edges' importance."""
        return send_along(x, self.conv, A)


class STGCNUnit(ResidualUnit):
    """Graph convolution, convolution over time, residual."""

    def __init__(self, in_channels, out_channels, num_subsets, stride=1, residual=True, dropout=0.0):
        super().__init__()
        self.gcn = SpatialGraphConv(in_channels, out_channels, num_subsets)
        self.tcn = nn.Sequential(
            nn.BatchNorm2D(out_channels), nn.ReLU(),
            Conv2D(out_channels, out_channels, (KERNEL, 1), (stride, 1), (KERNEL // 2, 0)),
            nn.BatchNorm2D(out_channels), nn.Dropout(dropout))
        self.add_residual(in_channels, out_channels, stride, residual)

    def projection(self, in_channels, out_channels, stride):
        return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2D(out_channels))

    def body(self, x, A):
        return self.tcn(self.gcn(x, A))


@BACKBONES.register
class STGCN(JointsBackbone):
    """ST-GCN backbone: ``(N, C, T, V, M) → (N, M, 256, T/4, V)``, for any number of persons M.

    Args:
        in_channels: 2 for x, y; 3 for x, y, z or x, y, score.
        dropout: after the convolution over time of every unit except the first.
        layout: name or description of the skeleton.
        strategy: how its adjacency is split into K subsets, see ``skeleton.adjacency``.
        edge_importance_weighting: every unit learns one factor per entry of the adjacency.
        data_bn: start with BatchNorm, one channel per coordinate of a joint.
    """

    def __init__(self, in_channels=2, dropout=0.0, layout="fsd10", strategy="spatial", edge_importance_weighting=True,
                 data_bn=True):
        super().__init__()
        if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
            raise ValueError(f"in_channels is {in_channels!r}, expected a positive integer")
        if isinstance(dropout, bool) or not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout!r}, expected 0 <= dropout < 1")
        for name, value in (("edge_importance_weighting", edge_importance_weighting), ("data_bn", data_bn)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}, expected true or false")
        self.layout, self.in_channels = get_layout(layout), in_channels
        A = adjacency(self.layout, strategy)
        self.register_buffer("A", paddle.to_tensor(A))
        self.data_bn = nn.BatchNorm1D(in_channels * self.layout.num_joints) if data_bn else None
        self.st_gcn_networks = nn.LayerList()
        source = in_channels
        for number, (target, stride) in enumerate(UNITS):
            first = number == 0
            self.st_gcn_networks.append(STGCNUnit(source, target, len(A), stride, not first, 0.0 if first else dropout))
            source = target
        self.out_channels = source
        self.edge_importance = None
        if edge_importance_weighting:
            self.edge_importance = nn.ParameterList(
                [self.create_parameter(A.shape, default_initializer=Constant(1.0)) for _ in UNITS])
        self.init_weights()

    def init_weights(self):
        """As in PaddleVideo: convolutions N(0, 0.02²), BatchNorm scales N(1, 0.02²), biases 0."""
        for layer in self.sublayers():
            if isinstance(layer, (nn.Conv2D, nn.BatchNorm1D, nn.BatchNorm2D)):
                Normal(0.0 if isinstance(layer, nn.Conv2D) else 1.0, 0.02)(layer.weight)
                Constant(0.0)(layer.bias)

    def graphs(self):
        """The adjacency of every unit, a list of ``(K, V, V)``."""
        if self.edge_importance is None:
            return [self.A] * len(UNITS)
        return [self.A * importance for importance in self.edge_importance]

    def forward(self, x):
        persons = x.shape[4]
        x = persons_to_batch(x.transpose([0, 4, 3, 1, 2]), self.data_bn, per_person=True)
        for unit, A in zip(self.st_gcn_networks, self.graphs()):
            x = unit(x, A)
        return x.reshape([-1, persons, *x.shape[1:]])
