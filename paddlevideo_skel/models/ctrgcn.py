"""CTR-GCN (Chen et al., "Channel-wise Topology Refinement Graph Convolution", ICCV 2021) and CTR-GCN-Lite."""
import paddle
from paddle import nn
from paddle.nn.initializer import Assign, Constant, Normal

from ..skeleton import adjacency, get_layout
from .layers import BACKBONES, JointsBackbone, ResidualUnit, TemporalConv, conv1x1, init_conv_bn, persons_to_batch

DILATIONS = (1, 2)
BRANCH_KERNEL = 5


class CTRGC(nn.Layer):
    """One channel-wise refined graph convolution (equations 3 to 6 of the paper)."""

    def __init__(self, in_channels, out_channels, rel_reduction=8):
        super().__init__()
        # Raw coordinates (2 or 3), or three features of each (9), are too few channels to reduce.
        rel_channels = 8 if in_channels in (2, 3, 9) else in_channels // rel_reduction
        self.conv1 = conv1x1(in_channels, rel_channels)
        self.conv2 = conv1x1(in_channels, rel_channels)
        self.conv3 = conv1x1(in_channels, out_channels)
        self.conv4 = conv1x1(rel_channels, out_channels)

    def forward(self, x, x_mean, A, alpha):
        """``(N, C, T, V) → (N, C', T, V)``.

        Args:
            x: ``(N, C, T, V)``. x_mean: its mean over time, ``(N, C, 1, V)``.
            A: the topology that all channels share, ``(V, V)``. alpha: weight of the channels' own topologies.
        """
        # The mean over time comes before the two convolutions, not after: they are linear, and T times cheaper there.
        query = self.conv1(x_mean).transpose([0, 1, 3, 2])
        relation = paddle.tanh(query - self.conv2(x_mean))
        # alpha scales the small weights, not the large result: conv4 is pointwise, so this is the same.
        topology = nn.functional.conv2d(relation, self.conv4.weight * alpha)
        topology = topology + (self.conv4.bias * alpha).reshape([-1, 1, 1]) + A
        return paddle.matmul(self.conv3(x), topology, transpose_y=True)


class RefinedGraphConv(nn.Layer):
    """The sum of three refined graph convolutions, with a residual: ``(N, C, T, V) → (N, C', T, V)``."""

    def __init__(self, in_channels, out_channels, A, adaptive=True):
        super().__init__()
        self.convs = nn.LayerList([CTRGC(in_channels, out_channels) for _ in A])
        self.down = None
        if in_channels != out_channels:
            self.down = nn.Sequential(conv1x1(in_channels, out_channels), nn.BatchNorm2D(out_channels))
        self.adaptive = adaptive
        if adaptive:
            self.PA = self.create_parameter(A.shape, default_initializer=Assign(A))
        else:
            self.A = self.create_parameter(A.shape, default_initializer=Assign(A))
            self.A.stop_gradient = True
        self.alpha = self.create_parameter([1], default_initializer=Constant(0.0))
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x):
        graph = self.PA if self.adaptive else self.A
        x_mean = x.mean(axis=2, keepdim=True)
        y = sum(conv(x, x_mean, graph[k], self.alpha) for k, conv in enumerate(self.convs))
        return nn.functional.relu(self.bn(y) + (x if self.down is None else self.down(x)))


class MultiScaleTemporalConv(nn.Layer):
    """Four parallel branches over time: two dilated convolutions, max pooling, a pointwise convolution.

    ``(N, C, T, V) → (N, C, T/stride, V)``.
    """

    def __init__(self, channels, stride=1, act=False):
        super().__init__()
        self.act = act
        width, rest = divmod(channels, len(DILATIONS) + 2)
        if rest:
            raise ValueError(f"{channels} channels cannot be divided among {len(DILATIONS) + 2} branches")

        def entry():
            return [conv1x1(channels, width), nn.BatchNorm2D(width), nn.ReLU()]

        self.branches = nn.LayerList(
            [nn.Sequential(*entry(), TemporalConv(width, width, BRANCH_KERNEL, stride, d)) for d in DILATIONS] +
            [nn.Sequential(*entry(), nn.MaxPool2D((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2D(width)),
             nn.Sequential(conv1x1(channels, width, stride), nn.BatchNorm2D(width))])

    def forward(self, x):
        y = paddle.concat([branch(x) for branch in self.branches], axis=1)
        return nn.functional.relu(y) if self.act else y


class CTRGCNUnit(ResidualUnit):
    """Graph convolution, temporal block, residual."""

    def __init__(self, in_channels, out_channels, A, stride=1, residual=True, adaptive=True, tcn_act=False):
        super().__init__()
        self.gcn1 = RefinedGraphConv(in_channels, out_channels, A, adaptive)
        self.tcn1 = MultiScaleTemporalConv(out_channels, stride, tcn_act)
        self.add_residual(in_channels, out_channels, stride, residual)

    def body(self, x):
        return self.tcn1(self.gcn1(x))


@BACKBONES.register
class CTRGCN(JointsBackbone):
    """CTR-GCN backbone: ``(N, C, T, V, M) → (N, M, C', T/4, V)``.

    Args:
        num_point: joints V; None: the layout's. num_person: persons M. base_channel: channels of units 1 to 4.
        graph: name or description of the skeleton.
        graph_args: ``labeling_mode: spatial``, the only one published for CTR-GCN.
        in_channels: 3 for x, y, z; 2 for x, y.
        adaptive: learn the shared topology, which starts as the skeleton's.
        tcn_act: a ReLU after the temporal block, before the residual, as in pyskl's and mmaction2's CTR-GCN.
    """

    num_units = 10

    def __init__(self, num_point=None, num_person=2, base_channel=64, graph="ntu_rgb_d", graph_args=None,
                 in_channels=3, adaptive=True, tcn_act=False):
        super().__init__()
        mode = (graph_args or {}).get("labeling_mode", "spatial")
        if mode != "spatial" or set(graph_args or ()) - {"labeling_mode"}:
            raise ValueError(f"graph_args is {graph_args!r}, expected labeling_mode: spatial")
        self.layout = get_layout(graph)
        if num_point not in (None, self.layout.num_joints):
            raise ValueError(f"num_point is {num_point}, but the layout {self.layout.name} has "
                             f"{self.layout.num_joints} joints")
        self.in_channels, self.num_person, self.tcn_act = in_channels, num_person, tcn_act
        A = adjacency(self.layout, "inward_outward")
        self.data_bn = nn.BatchNorm1D(num_person * in_channels * self.layout.num_joints)
        source = in_channels
        for unit in range(1, self.num_units + 1):
            target = base_channel * (1 if unit < 5 else 2 if unit < 8 else 4)
            stride = 2 if unit in (5, 8) else 1
            setattr(self, f"l{unit}", CTRGCNUnit(source, target, A, stride, unit > 1, adaptive, tcn_act))
            source = target
        self.out_channels = source
        self.init_weights()

    def init_weights(self):
        """As in the authors' code: He initialisation for convolutions; the graph's BatchNorm near 0, so that a unit
        starts as its residual; the temporal BatchNorm scales N(1, 0.02²)."""
        init_conv_bn(self)
        for layer in self.sublayers():
            if isinstance(layer, RefinedGraphConv):
                Constant(1e-6)(layer.bn.weight)
            elif isinstance(layer, MultiScaleTemporalConv):
                for bn in layer.sublayers():
                    if isinstance(bn, nn.BatchNorm2D):
                        Normal(1.0, 0.02)(bn.weight)

    def forward(self, x):
        x = persons_to_batch(x.transpose([0, 4, 3, 1, 2]), self.data_bn, per_person=False)
        for unit in range(1, self.num_units + 1):
            x = getattr(self, f"l{unit}")(x)
        return x.reshape([-1, self.num_person, *x.shape[1:]])


@BACKBONES.register
class CTRGCNLite(CTRGCN):
    """CTR-GCN without its tenth unit; with ``remove_l9`` without the ninth too."""

    def __init__(self, num_point=None, num_person=2, base_channel=64, graph="ntu_rgb_d", graph_args=None,
                 in_channels=3, adaptive=True, remove_l9=False, tcn_act=False):
        self.num_units = 8 if remove_l9 else 9
        super().__init__(num_point, num_person, base_channel, graph, graph_args, in_channels, adaptive, tcn_act)
