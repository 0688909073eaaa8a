"""Layers that several model families share, and the registries of backbones, heads and recognizers."""
from paddle import nn
from paddle.nn.initializer import Constant, KaimingNormal

from ..registry import Registry

BACKBONES = Registry("backbone")
HEADS = Registry("head")
RECOGNIZERS = Registry("framework")


class Conv2D(nn.Conv2D):
    """``nn.Conv2D`` whose bias is added as ``(C, 1, 1)``.

    Paddle adds it as ``(1, C, 1, 1)``, for which its CPU kernels take a general broadcast. A training step is 1.4 to
    1.7 times faster on a CPU without that (``benchmarks/training_step.py``); the sum is the same.
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
        if isinstance(sub, nn.Conv2D):
            out_channels, _, *kernel = sub.weight.shape
            fan = out_channels * kernel[0] * kernel[1]
            KaimingNormal(fan_in=fan)(sub.weight)
            if sub.bias is not None:
                Constant(0.0)(sub.bias)
        elif isinstance(sub, (nn.BatchNorm1D, nn.BatchNorm2D)):
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


class ResidualUnit(nn.Layer):
    """``relu(body(x) + residual(x))``; subclasses give ``body``, and end their ``__init__`` with ``add_residual``."""

    def add_residual(self, in_channels, out_channels, stride, residual):
        """The residual is nothing, the input, or where channels or frames change a pointwise convolution of it."""
        self.identity = residual and in_channels == out_channels and stride == 1
        self.residual = None
        if residual and not self.identity:
            self.residual = TemporalConv(in_channels, out_channels, 1, stride)

    def forward(self, x):
        y = self.body(x)
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
