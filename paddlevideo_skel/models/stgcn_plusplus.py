"""ST-GCN++ (Duan et al., "PYSKL: Towards Good Practices for Skeleton Action Recognition", 2022).

ST-GCN with a learned adjacency, a residual around the graph convolution, and a temporal block of six branches.
"""
import paddle
from paddle import nn
from paddle.nn.initializer import Assign

from ..errors import near_miss
from ..skeleton import LAYOUTS, STRATEGIES, adjacency, get_layout
from .layers import BACKBONES, ResidualUnit, TemporalConv, conv1x1, init_conv_bn, persons_to_batch, send_along
from .stgcn import KERNEL

BRANCHES = ((3, 1), (3, 2), (3, 3), (3, 4), ("max", 3), "1x1")
ADAPTIVE = (None, "init", "offset", "importance")
# The strategies under PaddleVideo's names for ST-GCN++, and a separate name for ST-GCN's partition.
GRAPH_STRATEGIES = (*STRATEGIES, "stgcn_spatial", "partition")


def build_graph(layout, strategy):
    """The adjacency ``(K, V, V)`` that training starts from. The meaning of the names depends on the model's graph
    class.

    PaddleVideo's ST-GCN++ has a graph class apart from ST-GCN's. Its config (``coco_keypoint``, ``spatial``) and its
    author's branch (``coco``, ``stgcn_spatial``) both mean the inward and outward bones of COCO's tree, whose centre is
    the nose. For other layouts both names are ST-GCN's partition; for COCO that is ``partition``. Published checkpoints
    do not hold the graph, so a different graph gives different logits.

    Raises:
        ValueError: an unknown strategy.
    """
    if strategy not in GRAPH_STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}. {near_miss(strategy, GRAPH_STRATEGIES)}")
    if strategy in ("spatial", "stgcn_spatial") and layout in (LAYOUTS["coco"], LAYOUTS["coco_keypoint"]):
        return adjacency(LAYOUTS["coco"], "inward_outward")
    return adjacency(layout, "spatial" if strategy in ("stgcn_spatial", "partition") else strategy)


class AdaptiveGraphConv(nn.Layer):
    """Spatial graph convolution with K adjacency matrices: ``(N, C, T, V) → (N, C', T, V)``.

    Args:
        A: the graph's stack ``(K, V, V)``.
        adaptive: ``init``: A itself is learned; ``offset``: A + PA; ``importance``: A · PA; None: A is fixed.
        with_res: add the input, through ``down`` where the channels differ.
    """

    def __init__(self, in_channels, out_channels, A, adaptive="importance", with_res=False):
        super().__init__()
        if adaptive not in ADAPTIVE:
            raise ValueError(f"gcn_adaptive is {adaptive!r}, expected one of {ADAPTIVE}")
        self.out_channels, self.adaptive = out_channels, adaptive
        if adaptive == "init":
            self.A = self.create_parameter(A.shape, default_initializer=Assign(A))
        else:
            self.register_buffer("A", paddle.to_tensor(A))
        if adaptive in ("offset", "importance"):
            initial = nn.initializer.Uniform(-1e-6, 1e-6) if adaptive == "offset" else nn.initializer.Constant(1.0)
            self.PA = self.create_parameter(A.shape, default_initializer=initial)
        self.conv = conv1x1(in_channels, out_channels * len(A))
        self.bn = nn.BatchNorm2D(out_channels)
        self.with_res = with_res
        self.down = None
        if with_res and in_channels != out_channels:
            self.down = nn.Sequential(conv1x1(in_channels, out_channels), nn.BatchNorm2D(out_channels))

    def graph(self):
        """The adjacency in use, ``(K, V, V)``."""
        if self.adaptive == "offset":
            return self.A + self.PA
        return self.A * self.PA if self.adaptive == "importance" else self.A

    def forward(self, x):
        y = self.bn(send_along(x, self.conv, self.graph()))
        if self.with_res:
            y = y + (x if self.down is None else self.down(x))
        return nn.functional.relu(y)


class MultiBranchTemporalConv(nn.Layer):
    """Six parallel branches over time: four dilated convolutions, max pooling, a pointwise convolution.

    A pointwise convolution mixes them. ``(N, C, T, V) → (N, C, T/stride, V)``.
    """

    def __init__(self, channels, stride=1, dropout=0.0):
        super().__init__()
        width = channels // len(BRANCHES)
        first = channels - width * (len(BRANCHES) - 1)
        self.branches = nn.LayerList()
        for i, branch in enumerate(BRANCHES):
            out = width if i else first
            if branch == "1x1":
                self.branches.append(conv1x1(channels, out, stride))
                continue
            kernel, dilation = branch
            last = (nn.MaxPool2D((dilation, 1), (stride, 1), (1, 0)) if kernel == "max" else
                    TemporalConv(out, out, kernel, stride, dilation, norm=False))
            self.branches.append(nn.Sequential(conv1x1(channels, out), nn.BatchNorm2D(out), nn.ReLU(), last))
        self.transform = nn.Sequential(nn.BatchNorm2D(channels), nn.ReLU(), conv1x1(channels, channels))
        self.bn = nn.BatchNorm2D(channels)
        self.drop = nn.Dropout(dropout) if dropout else None

    def forward(self, x):
        x = paddle.concat([branch(x) for branch in self.branches], axis=1)
        x = self.bn(self.transform(x))
        return x if self.drop is None else self.drop(x)


class SingleScaleTemporalConv(TemporalConv):
    """One convolution over nine frames, as in ST-GCN: ``(N, C, T, V) → (N, C, T/stride, V)``."""

    def __init__(self, channels, stride=1, dropout=0.0):
        super().__init__(channels, channels, KERNEL, stride)
        self.drop = nn.Dropout(dropout) if dropout else None

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x if self.drop is None else self.drop(x)


TEMPORAL = {"mstcn": MultiBranchTemporalConv, "unit_tcn": SingleScaleTemporalConv}


class STGCNPlusPlusUnit(ResidualUnit):
    """Graph convolution, temporal block, residual."""

    def __init__(self, in_channels, out_channels, A, stride, residual, gcn, tcn, temporal=MultiBranchTemporalConv):
        super().__init__()
        self.gcn = AdaptiveGraphConv(in_channels, out_channels, A, **gcn)
        self.tcn = temporal(out_channels, stride, **tcn)
        self.add_residual(in_channels, out_channels, stride, residual)

    def body(self, x):
        return self.tcn(self.gcn(x))


@BACKBONES.register
class STGCNPlusPlus(nn.Layer):
    """ST-GCN++ backbone: ``(N, clips, M, T, V, C) → (N, clips, M, C', T', V)``.

    Args:
        layout: name or description of the skeleton.
        strategy: of the initial adjacency, see ``build_graph``; ``inward_outward`` is pyskl's mode ``spatial``.
        data_bn_type: ``VC``: one BatchNorm channel per coordinate of a joint; ``MVC``: separate ones per person.
        inflate_stages, down_stages: stages (from 1) that double the channels and halve the frames.
        gcn_adaptive, gcn_with_res: see ``AdaptiveGraphConv``. tcn_dropout: after every block except the first.
        tcn_type: ``mstcn``; or ``unit_tcn``, which with ``importance`` and no residual is pyskl's ST-GCN.
    """

    recognizer = "RecognizerGCN"
    sequence_axes = (1, 2)  # axes of the input over which features are averaged: clips and persons

    def __init__(self, in_channels=3, base_channels=64, data_bn_type="VC", ch_ratio=2, num_person=2, num_stages=10,
                 inflate_stages=(5, 8), down_stages=(5, 8), layout="coco", strategy="spatial", gcn_adaptive="init",
                 gcn_with_res=True, tcn_type="mstcn", tcn_dropout=0.0, pretrained=None):
        super().__init__()
        if data_bn_type not in ("VC", "MVC", None):
            raise ValueError(f"data_bn_type is {data_bn_type!r}, expected 'VC', 'MVC' or null")
        if tcn_type not in TEMPORAL:
            raise ValueError(f"tcn_type is {tcn_type!r}, expected {' or '.join(map(repr, TEMPORAL))}")
        if pretrained:
            raise ValueError("pretrained is not read from the config; pass the checkpoint with -w")
        self.layout = get_layout(layout)
        self.in_channels, self.num_person, self.data_bn_type = in_channels, num_person, data_bn_type
        self.gcn_adaptive = gcn_adaptive
        A = build_graph(self.layout, strategy)
        width = in_channels * self.layout.num_joints
        self.data_bn = {"VC": lambda: nn.BatchNorm1D(width), "MVC": lambda: nn.BatchNorm1D(width * num_person),
                        None: lambda: None}[data_bn_type]()
        gcn = {"adaptive": gcn_adaptive, "with_res": gcn_with_res}
        self.gcn = nn.LayerList()
        source = in_channels
        for stage in range(1, num_stages + 1):
            inflations = sum(s in inflate_stages for s in range(2, stage + 1))
            target = int(base_channels * ch_ratio ** inflations + 1e-4)
            self.gcn.append(STGCNPlusPlusUnit(source, target, A, 2 if stage > 1 and stage in down_stages else 1,
                                  residual=stage > 1, gcn=gcn, tcn={"dropout": tcn_dropout if stage > 1 else 0.0},
                                  temporal=TEMPORAL[tcn_type]))
            source = target
        self.out_channels = source
        init_conv_bn(self)

    @property
    def expects(self):
        """The shape of a sample, in words, for error messages."""
        return f"(clips, persons, frames, {self.layout.num_joints} joints, {self.in_channels} channels)"

    def takes(self, shape):
        """Whether the model accepts a sample of this shape."""
        fits = len(shape) == 5 and tuple(shape[3:]) == (self.layout.num_joints, self.in_channels)
        return fits and (self.data_bn_type != "MVC" or shape[1] == self.num_person)

    def forward(self, x):
        clips, persons, frames, joints, channels = x.shape[1:]
        x = x.reshape([-1, persons, frames, joints, channels]).transpose([0, 1, 3, 4, 2])
        x = persons_to_batch(x, self.data_bn, per_person=self.data_bn_type != "MVC")
        for block in self.gcn:
            x = block(x)
        return x.reshape([-1, clips, persons, *x.shape[1:]])
