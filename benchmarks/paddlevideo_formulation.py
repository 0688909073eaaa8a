"""PaddleVideo's formulation of CTR-GCN and ST-GCN++, as forward passes over this package's layers.

Three graph convolutions apart, each with its two convolutions before the mean over time; biases inside Paddle's own
convolution layer; the branches of a temporal block one after the other.
"""
import paddle
from paddle import nn

from paddlevideo_skel.models import ctrgcn, layers, stgcn_plusplus
from paddlevideo_skel.models.formulation import formulation


def refined(self, x, A, alpha):
    query, key = self.conv1(x).mean(-2), self.conv2(x).mean(-2)
    topology = self.conv4(paddle.tanh(query.unsqueeze(-1) - key.unsqueeze(-2))) * alpha + A
    return paddle.einsum("ncuv,nctv->nctu", topology, self.conv3(x))


def refined_graph(self, x):
    y = None
    for conv, A in zip(self.convs, self.PA):
        z = refined(conv, x, A, self.alpha)
        y = z if y is None else y + z
    y = self.bn(y) + (x if self.down is None else self.down(x))
    return nn.functional.relu(y)


def learned_graph(self, x):
    y = self.conv(x)
    y = paddle.einsum("nkctv,kvw->nctw", y.reshape([len(y), len(self.A), -1, *y.shape[2:]]), self.A)
    return nn.functional.relu(self.bn(y) + (x if self.down is None else self.down(x)))


FORWARDS = {layers.Conv2D: nn.Conv2D.forward, ctrgcn.GraphConv: refined_graph, stgcn_plusplus.GraphConv: learned_graph}


def use():
    """Compute this way from now on, in the whole process."""
    for layer, forward in FORWARDS.items():
        layer.forward = forward
    formulation("plain").__enter__()
