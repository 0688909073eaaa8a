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
    """``nn.Conv2D`` whose bias is added as ``(C, 1, 1)``.

    Paddle adds it as ``(1, C, 1, 1)``, for which its CPU kernels take a general broadcast; the sum is the same.
    """

    def forward(self, x):
        y = nn.functional.conv2d(x, self.weight, None, self._stride, self._padding, self._dilation, self._groups)
        return y if self.bias is None else y + self.bias.reshape([-1, 1, 1])


def conv1x1(in_channels, out_channels, stride=1):
    """Pointwise convolution; ``stride`` applies to time only."""
    return Conv2D(in_channels, out_channels, 1, stride=(stride, 1))


def init_conv_bn(layer):
    """He initialisation (fan out) of every convolution in ``layer``, biases 0, BatchNorm 1 and 0."""
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
    """Convolution over time, kernel ``(k, 1)``, with BatchNorm (``norm=True``) after it.

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
    """Send each of K parts of a pointwise convolution's channels along its own graph, and add them up.

    Args:
        x: ``(N, C, T, V)``. conv: a convolution to K·C' channels.
        A: the stack ``(K, V, V)``; features are multiplied with it from the right.

    Returns:
        ``(N, C', T, V)``.
    """
    subsets, joints = A.shape[:2]
    frames, channels = x.shape[2], conv.weight.shape[0] // subsets
    # Flat, for an exported graph's sake: oneDNN's matrix product in Paddle 3.3 misreads the blocked layout of a
    # convolution's result, and a reshape brings that back to the plain one.
    parts = conv(x).reshape([-1, subsets * channels * frames, joints]).split(subsets, axis=1)
    # Each subset's product apart: Paddle's gradient of one product broadcast over the subsets fails on some shapes.
    first, *others = (paddle.matmul(part, graph) for part, graph in zip(parts, A))
    return sum(others, start=first).reshape([-1, channels, frames, joints])


class JointsBackbone(nn.Layer):
    """A backbone of ``(N, C, T, V, M)``; subclasses set ``in_channels``, ``layout`` and ``out_channels``.

    Attributes:
        recognizer: the framework that it belongs into.
        num_person: persons M of a sample; None: any number.
        sequence_axes: of the input, whose features are averaged: persons.
    """

    recognizer = "RecognizerGCN"
    num_person = None
    sequence_axes = (4,)

    @property
    def expects(self):
        """The shape of one sample in words."""
        persons = "persons" if self.num_person is None else f"{self.num_person} person{'s' * (self.num_person > 1)}"
        return f"({self.in_channels} channels, frames, {self.layout.num_joints} joints, {persons})"

    def takes(self, shape):
        """Whether one sample of ``shape`` fits."""
        channels, _, joints, persons = shape if len(shape) == 4 else (0,) * 4
        return (channels, joints) == (self.in_channels, self.layout.num_joints) and (
            self.num_person in (None, persons))


class ResidualUnit(nn.Layer):
    """``relu(body(x) + residual(x))``; subclasses give ``body``, and end their ``__init__`` with ``add_residual``."""

    def add_residual(self, in_channels, out_channels, stride, residual):
        """The residual is nothing, the input, or where channels or frames change a pointwise convolution of it."""
        self.identity = residual and in_channels == out_channels and stride == 1
        self.residual = None
        if residual and not self.identity:
            self.residual = self.projection(in_channels, out_channels, stride)

    def projection(self, in_channels, out_channels, stride):
        """The residual where channels or frames change: a convolution and its BatchNorm."""
        return TemporalConv(in_channels, out_channels, 1, stride)

    def forward(self, x, *graph):
        y = self.body(x, *graph)
        if self.identity:
            y = y + x
        elif self.residual is not None:
            y = y + self.residual(x)
        return nn.functional.relu(y)


def persons_to_batch(x, data_bn, per_person):
    """Normalise and give every person a place in the batch.

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
