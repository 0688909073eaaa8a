"""The same networks as matrix products, for Paddle's CPU kernels.

There are two implementations of every layer, which agree in double precision to 1e-9, gradients included:

- ``conv``: convolutions, pooling and means, as the papers write them and the other modules of this package define them.
  GPUs and NPUs run it, every export is traced from it, and tests compare with it.
- ``matmul``: Paddle's CPU convolutions, the gradients of its means and its sums over broadcast axes are several times
  slower than MKL's matrix products (``docs/performance.md``).

``accelerate(model)`` switches a built model from the first to the second: a layer whose class is in ``FORWARDS``
becomes the subclass given there, which computes differently. Parameters, state dict and structure stay as they are;
``decelerate(model)`` undoes it.

It is applied in one place, ``paddlevideo_skel.build.build_recognizer``, by ``apply_implementation``: on a CPU, unless
the environment variable ``PADDLEVIDEO_SKEL_IMPLEMENTATION`` says otherwise. So training, validation, precise
BatchNorm, testing and the dynamic side of an export's self-check all compute the same way. BatchNorm over several
processes needs ``conv``: ``training.batch_norm.synchronise`` undoes the acceleration.
"""
import os

import paddle
from paddle import nn

from ..errors import ConfigError
from . import ctrgcn, heads, layers, posec3d, stgcn, stgcn_plusplus
from .cpu_ops import (
    add,
    batch_norm,
    conv_without_bias,
    graph_matmul,
    mean_over_time,
    pairwise_difference,
    pointwise_conv,
    shared_matmul,
    spatial_mean,
)

IMPLEMENTATIONS = ("conv", "matmul")
VARIABLE = "PADDLEVIDEO_SKEL_IMPLEMENTATION"
# Names of the variable and its values in earlier versions.
OLD_VARIABLE, OLD_NAMES = "PADDLEVIDEO_SKEL_FORMULATION", {"plain": "conv", "products": "matmul"}


def requested_implementation():
    """The implementation that the environment asks for, or None.

    Raises:
        ConfigError: the variable has another value.
    """
    name = os.environ.get(VARIABLE)
    if name:
        if name not in IMPLEMENTATIONS:
            raise ConfigError(VARIABLE, f"is {name!r}, expected {' or '.join(IMPLEMENTATIONS)}", "Or unset it")
        return name
    old = os.environ.get(OLD_VARIABLE)
    if old and old not in OLD_NAMES:
        raise ConfigError(OLD_VARIABLE, f"is {old!r}, expected {' or '.join(OLD_NAMES)}",
                          f"Or set {VARIABLE} to {' or '.join(IMPLEMENTATIONS)}")
    return OLD_NAMES.get(old)


def apply_implementation(model):
    """Give a new model the implementation that the environment asks for, or the fastest on paddle's current device.

    Returns:
        the model.
    """
    default = "matmul" if paddle.get_device() == "cpu" else "conv"
    return accelerate(model) if (requested_implementation() or default) == "matmul" else model


def accelerate(model):
    """Make a model compute with matrix products; returns the model.

    A graph traced from it still consists of ``conv``'s layers.
    """
    for layer in model.sublayers(include_self=True):
        if type(layer) in FORWARDS:
            layer.__class__ = FORWARDS[type(layer)]
    return model


def decelerate(model):
    """Make a model compute with convolutions again; returns the model."""
    originals = {fast: plain for plain, fast in FORWARDS.items()}
    for layer in model.sublayers(include_self=True):
        if type(layer) in originals:
            layer.__class__ = originals[type(layer)]
    return model


class Matmul:
    """A layer that computes with ``compute``; tracing uses the ``forward`` of its original class.

    A class derived from an accelerated one may have a ``forward`` of its own, so it computes with that.
    """

    def __call__(self, *inputs):
        fast = paddle.in_dynamic_mode() and type(self) in FORWARDS.values()
        return self.compute(*inputs) if fast else super().__call__(*inputs)


class MatmulConv2D(Matmul, layers.Conv2D):
    """Pointwise convolutions become products; others stay unchanged."""

    def compute(self, x):
        if list(self._kernel_size) == [1, 1]:
            return pointwise_conv(x, self.weight, self.bias, self._stride[0])
        return self.forward(x)


class MatmulTemporalConv(Matmul, layers.TemporalConv):
    """Convolution and BatchNorm, without adding the bias in between."""

    def compute(self, x):
        return self.conv(x) if self.bn is None else conv_norm(x, self.conv, self.bn)


class MatmulSingleScaleTemporalConv(Matmul, stgcn_plusplus.SingleScaleTemporalConv):
    """The same, and dropout."""

    def compute(self, x):
        x = conv_norm(x, self.conv, self.bn)
        return x if self.drop is None else self.drop(x)


class MatmulSpatialGraphConv(Matmul, stgcn.SpatialGraphConv):
    """ST-GCN's graph convolution."""

    def compute(self, x, A):
        return send_along_graphs(x, self.conv, A)


class MatmulSTGCNUnit(Matmul, stgcn.STGCNUnit):
    """The convolution over time and its BatchNorm in one."""

    def compute(self, x, A):
        norm, relu, conv, last, drop = self.tcn
        return add_residual(self, drop(conv_norm(relu(norm(self.gcn(x, A))), conv, last)), x)


class MatmulAdaptiveGraphConv(Matmul, stgcn_plusplus.AdaptiveGraphConv):
    """ST-GCN++'s graph convolution."""

    def compute(self, x):
        y = self.bn(send_along_graphs(x, self.conv, self.graph()))
        if self.with_res:
            y = add(y, x if self.down is None else conv_norm(x, *self.down))
        return nn.functional.relu(y)


class MatmulMultiBranchTemporalConv(Matmul, stgcn_plusplus.MultiBranchTemporalConv):
    """The branches' pointwise convolutions as one product; each BatchNorm with the bias before it."""

    def compute(self, x):
        norm, relu, conv = self.transform
        x, bias = join_branches(x, self.branches)
        x = conv_norm(relu(batch_norm(x, [norm], bias)), conv, self.bn)
        return x if self.drop is None else self.drop(x)


class MatmulSTGCNPlusPlusUnit(Matmul, stgcn_plusplus.STGCNPlusPlusUnit):
    """The residual's gradient without a copy."""

    def compute(self, x):
        return add_residual(self, self.body(x), x)


class MatmulRefinedGraphConv(Matmul, ctrgcn.RefinedGraphConv):
    """CTR-GCN's three graph convolutions together: shared operations become one product each."""

    def compute(self, x):
        y = self.bn(self.sum_over_graphs(x, mean_over_time(x), self.PA if self.adaptive else self.A))
        return nn.functional.relu(add(y, x if self.down is None else conv_norm(x, *self.down)))

    def sum_over_graphs(self, x, x_mean, A):
        """The sum of the ``CTRGC`` of ``x (N, C, T, V)`` with its mean over time and the topologies ``A (K, V, V)``."""
        frames, joints = x.shape[2:]
        subsets = len(self.convs)
        query, key = (pointwise_conv(x_mean, *join_convs([getattr(conv, name) for conv in self.convs])).squeeze(2)
                      for name in ("conv1", "conv2"))
        relation = paddle.tanh(pairwise_difference(query, key))
        relation = relation.reshape([-1, subsets, key.shape[1] // subsets, joints ** 2])
        # alpha · (weight · relation + bias) + A is [alpha · weight, alpha · bias, 1] · [relation, 1, A].
        conv4 = paddle.stack([paddle.concat([conv.conv4.weight.flatten(1), conv.conv4.bias.unsqueeze(1)], axis=1)
                              for conv in self.convs]) * self.alpha
        weight = paddle.concat([conv4, paddle.ones_like(conv4[:, :, :1])], axis=2)
        ones = paddle.ones_like(relation[:, :, :1])
        relation = paddle.concat([relation, ones, ones * A.reshape([subsets, 1, -1])], axis=2)
        topology = shared_matmul(weight, relation).reshape([-1, *weight.shape[:2], joints, joints])
        features = pointwise_conv(x, *join_convs([conv.conv3 for conv in self.convs]))
        return graph_matmul(features.reshape([-1, subsets, weight.shape[1], frames, joints]), topology)


class MatmulMultiScaleTemporalConv(Matmul, ctrgcn.MultiScaleTemporalConv):
    """The branches' pointwise convolutions as one product, and their last BatchNorms as one."""

    def compute(self, x):
        y, bias = join_branches(x, self.branches)
        y = batch_norm(y, [branch[-1].bn if isinstance(branch[-1], layers.TemporalConv) else branch[-1]
                           for branch in self.branches], bias)
        return nn.functional.relu(y) if self.act else y


class MatmulCTRGCNUnit(Matmul, ctrgcn.CTRGCNUnit):
    """The residual's gradient without a copy."""

    def compute(self, x):
        return add_residual(self, self.body(x), x)


class MatmulBottleneck(Matmul, posec3d.Bottleneck):
    """The residual's gradient without a copy; Paddle's 3D convolutions are oneDNN's, and stay."""

    def compute(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return nn.functional.relu(add(y, x if self.downsample is None else self.downsample(x)))


class MatmulPooling(Matmul):
    """A head over joints; its mean over frames and joints is a product."""

    def compute(self, x):
        x = spatial_mean(x).mean(axis=-2)
        return self.classify(x if self.drop is None else self.drop(x))


class MatmulSTGCNHead(MatmulPooling, heads.STGCNHead):
    """ST-GCN's head."""


class MatmulSTGCNPlusPlusHead(MatmulPooling, heads.STGCNPlusPlusHead):
    """ST-GCN++'s head."""


class MatmulCTRGCNHead(MatmulPooling, heads.CTRGCNHead):
    """CTR-GCN's head."""


FORWARDS = {
    layers.Conv2D: MatmulConv2D,
    layers.TemporalConv: MatmulTemporalConv,
    stgcn.SpatialGraphConv: MatmulSpatialGraphConv,
    stgcn.STGCNUnit: MatmulSTGCNUnit,
    stgcn_plusplus.AdaptiveGraphConv: MatmulAdaptiveGraphConv,
    stgcn_plusplus.MultiBranchTemporalConv: MatmulMultiBranchTemporalConv,
    stgcn_plusplus.SingleScaleTemporalConv: MatmulSingleScaleTemporalConv,
    stgcn_plusplus.STGCNPlusPlusUnit: MatmulSTGCNPlusPlusUnit,
    ctrgcn.RefinedGraphConv: MatmulRefinedGraphConv,
    ctrgcn.MultiScaleTemporalConv: MatmulMultiScaleTemporalConv,
    ctrgcn.CTRGCNUnit: MatmulCTRGCNUnit,
    posec3d.Bottleneck: MatmulBottleneck,
    heads.STGCNHead: MatmulSTGCNHead,
    heads.STGCNPlusPlusHead: MatmulSTGCNPlusPlusHead,
    heads.CTRGCNHead: MatmulCTRGCNHead,
}


def conv_norm(x, conv, norm):
    """A convolution and the BatchNorm after it."""
    return batch_norm(conv_without_bias(x, conv), [norm], conv.bias)


def add_residual(unit, y, x):
    """The end of a ``ResidualUnit``: ``relu(y + residual(x))``."""
    residual = x if unit.identity else None if unit.residual is None else unit.residual(x)
    return nn.functional.relu(y if residual is None else add(y, residual))


def send_along_graphs(x, conv, A):
    """``layers.send_along``: ``x (N, C, T, V)`` through a convolution to K·C' channels and ``A (K, V, V)``."""
    subsets, joints = A.shape[:2]
    frames, channels = x.shape[2], conv.weight.shape[0] // subsets
    parts = pointwise_conv(x, conv.weight).reshape([-1, subsets, channels * frames, joints])
    # The contribution of the convolution's bias, which is the same in every frame.
    bias = paddle.matmul(conv.bias.reshape([subsets, channels]), A.sum(1), transpose_x=True)
    bias = bias.unsqueeze(1).expand([channels, frames, joints]).reshape([1, -1])
    return graph_matmul(parts, A.transpose([0, 2, 1]).unsqueeze(0), bias).reshape([-1, channels, frames, joints])


def join_convs(convs):
    """Weight and bias of pointwise convolutions of the same input, side by side."""
    return paddle.concat([conv.weight for conv in convs]), paddle.concat([conv.bias for conv in convs])


def join_branches(x, branches):
    """The branches of a multi-scale temporal block up to their last bias and BatchNorm.

    All but the last begin with a pointwise convolution, BatchNorm and ReLU, which are computed together; then comes a
    ``TemporalConv`` or a maximum. The last one is a pointwise convolution.

    Returns:
        their results side by side, ``(N, C, T', V)``, and the bias ``(C,)`` that remains to be added.
    """
    *branches, point = branches
    point = point[0] if isinstance(point, nn.Sequential) else point
    convs, norms = [branch[0] for branch in branches], [branch[1] for branch in branches]
    weight, bias = join_convs(convs)
    y = nn.functional.relu(batch_norm(pointwise_conv(x, weight), norms, bias))
    results, biases = [], []
    for part, branch in zip(y.split([conv.weight.shape[0] for conv in convs], axis=1), branches):
        last = branch[3]
        if isinstance(last, nn.MaxPool2D):
            results.append(last(part))
            biases.append(paddle.zeros_like(branch[0].bias))
        else:
            results.append(conv_without_bias(part, last.conv))
            biases.append(last.conv.bias)
    return paddle.concat([*results, conv_without_bias(x, point)], axis=1), paddle.concat([*biases, point.bias])
