"""Layers that several model families share, and the registries of backbones, heads and recognizers."""
import math

import paddle
from paddle import nn
from paddle.nn.initializer import Constant, KaimingNormal

from ..registry import Registry

BACKBONES = Registry("backbone")
HEADS = Registry("head")
RECOGNIZERS = Registry("framework")


class Conv2D(nn.Conv2D):
    """``nn.Conv2D`` that adds its bias as ``(C, 1, 1)``, which is the same sum.

    Paddle adds it as ``(1, C, 1, 1)``, for which its CPU kernels use a slow general broadcast.
    """

    def forward(self, x):
        y = nn.functional.conv2d(x, self.weight, None, self._stride, self._padding, self._dilation, self._groups)
        return y if self.bias is None else y + self.bias.reshape([-1, 1, 1])


def conv1x1(in_channels, out_channels, stride=1):
    """Pointwise convolution; ``stride`` applies to time only."""
    return Conv2D(in_channels, out_channels, 1, stride=(stride, 1))


def init_conv_bn(layer):
    """Initialise ``layer``: He initialisation (fan out) for convolutions, biases 0, BatchNorm scales 1 and shifts 0."""
    for sub in layer.sublayers(include_self=True):
        if isinstance(sub, (nn.Conv2D, nn.Conv3D)):
            out_channels, _, *kernel = sub.weight.shape
            KaimingNormal(fan_in=out_channels * math.prod(kernel))(sub.weight)
            if sub.bias is not None:
                Constant(0.0)(sub.bias)
        elif isinstance(sub, (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D)):
            Constant(1.0)(sub.weight)
            Constant(0.0)(sub.bias)


class TemporalConv(nn.Layer):
    """Convolution over time, kernel ``(k, 1)``, followed by BatchNorm unless ``norm=False``.

    ``(N, C, T, V) → (N, C', ceil(T / stride), V)``.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, dilation=1, norm=True):
        super().__init__()
        padding = (kernel_size - 1) * dilation // 2
        self.conv = Conv2D(in_channels, out_channels, (kernel_size, 1), stride=(stride, 1),
                           padding=(padding, 0), dilation=(dilation, 1))
        self.bn = nn.BatchNorm2D(out_channels) if norm else None

    def forward(self, x):
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


def send_along(x, conv, A):
    """Graph convolution with K adjacency matrices, ``Σ_k conv_k(x) · A_k``.

    Args:
        x: ``(N, C, T, V)``.
        conv: pointwise convolution to K·C' channels; its k-th part of C' channels is ``conv_k``.
        A: ``(K, V, V)``, from joint to joint.

    Returns:
        ``(N, C', T, V)``.
    """
    subsets, joints = A.shape[:2]
    frames, channels = x.shape[2], conv.weight.shape[0] // subsets
    # The reshape is for exports: oneDNN's matrix product in Paddle 3.3 misreads the blocked layout of a convolution's
    # result, and a reshape restores the plain layout.
    parts = conv(x).reshape([-1, subsets * channels * frames, joints]).split(subsets, axis=1)
    # One product per subset: Paddle's gradient of a single product broadcast over the subsets fails on some shapes.
    first, *others = (paddle.matmul(part, graph) for part, graph in zip(parts, A))
    return sum(others, start=first).reshape([-1, channels, frames, joints])


class JointsBackbone(nn.Layer):
    """A backbone of ``(N, C, T, V, M)``; subclasses set ``in_channels``, ``layout`` and ``out_channels``.

    Attributes:
        recognizer: the ``framework`` that it belongs to.
        num_person: persons M per sample; None: any number.
        sequence_axes: axes of the input over which features are averaged: persons.
    """

    recognizer = "RecognizerGCN"
    num_person = None
    sequence_axes = (4,)

    @property
    def expects(self):
        """The shape of a sample, in words, for error messages."""
        persons = "persons" if self.num_person is None else f"{self.num_person} person{'s' * (self.num_person > 1)}"
        return f"({self.in_channels} channels, frames, {self.layout.num_joints} joints, {persons})"

    def takes(self, shape):
        """Whether the model accepts a sample of this shape."""
        channels, _, joints, persons = shape if len(shape) == 4 else (0,) * 4
        return (channels, joints) == (self.in_channels, self.layout.num_joints) and (
            self.num_person in (None, persons))


class ResidualUnit(nn.Layer):
    """``relu(body(x) + residual(x))``; subclasses define ``body`` and call ``add_residual`` last in ``__init__``."""

    def add_residual(self, in_channels, out_channels, stride, residual):
        """Set the residual: nothing, the input, or its projection where the number of channels or frames changes."""
        self.identity = residual and in_channels == out_channels and stride == 1
        self.residual = None
        if residual and not self.identity:
            self.residual = self.projection(in_channels, out_channels, stride)

    def projection(self, in_channels, out_channels, stride):
        """A pointwise convolution with BatchNorm."""
        return TemporalConv(in_channels, out_channels, 1, stride)

    def forward(self, x, *graph):
        y = self.body(x, *graph)
        if self.identity:
            y = y + x
        elif self.residual is not None:
            y = y + self.residual(x)
        return nn.functional.relu(y)


def persons_to_batch(x, data_bn, per_person):
    """Normalise coordinates and move the persons into the batch axis.

    Args:
        x: ``(N, M, V, C, T)``.
        data_bn: BatchNorm1D over M·V·C channels, or over V·C with ``per_person``, or None.

    Returns:
        ``(N·M, C, T, V)``.
    """
    persons, joints, channels, frames = x.shape[1:]
    if data_bn is not None:
        width = joints * channels if per_person else persons * joints * channels
        x = data_bn(x.reshape([-1, width, frames]))
    return x.reshape([-1, joints, channels, frames]).transpose([0, 2, 3, 1])
