"""CTR-GCN, ST-GCN and ST-GCN++ computed as PaddleVideo does, as forward passes over this package's layers.

CTR-GCN: three separate graph convolutions, each with its two convolutions before the mean over time, and a product with
the transposed topology. ST-GCN: one product after the features were transposed. ST-GCN++: an einsum. In all of them
biases are added inside Paddle's own convolution layer, and the branches of a temporal block run one after the other.
PoseC3D is computed in the same way here.
"""
import paddle
from paddle import nn

from paddlevideo_skel.models import ctrgcn, layers, stgcn, stgcn_plusplus


def refined(self, x, A, alpha):
    query, key = self.conv1(x).mean(-2), self.conv2(x).mean(-2)
    topology = self.conv4(paddle.tanh(query.unsqueeze(-1) - key.unsqueeze(-2))) * alpha + A
    return paddle.matmul(self.conv3(x), topology.transpose([0, 1, 3, 2]))


def refined_graph(self, x):
    y = None
    for conv, A in zip(self.convs, self.PA):
        z = refined(conv, x, A, self.alpha)
        y = z if y is None else z + y
    y = self.bn(y) + (x if self.down is None else self.down(x))
    return nn.functional.relu(y)


def by_subset(y, subsets):
    """``(N, K·C, T, V)`` as ``(N, K, C, T, V)``."""
    return y.reshape([-1, subsets, y.shape[1] // subsets, *y.shape[2:]])


def weighted_graph(self, x, A):
    subsets, joints, _ = A.shape
    y = by_subset(self.conv(x), subsets).transpose([0, 2, 3, 1, 4])
    return paddle.matmul(y.reshape([-1, *y.shape[1:3], subsets * joints]), A.reshape([subsets * joints, joints]))


def learned_graph(self, x):
    y = paddle.einsum("nkctv,kvw->nctw", by_subset(self.conv(x), len(self.A)), self.A)
    return nn.functional.relu(self.bn(y) + (x if self.down is None else self.down(x)))


FORWARDS = {layers.Conv2D: nn.Conv2D.forward, ctrgcn.RefinedGraphConv: refined_graph,
            stgcn.SpatialGraphConv: weighted_graph, stgcn_plusplus.AdaptiveGraphConv: learned_graph}


def use():
    """Compute this way from now on, in the whole process. A model must not be accelerated (``models.cpu``)."""
    for layer, forward in FORWARDS.items():
        layer.forward = forward
