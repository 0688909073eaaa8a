"""Rewrites of PoseC3D: each frame is an image, and sums connect the frames.

On CPUs a 2D convolution of ``N·T`` images is faster than the equivalent 3D convolution. A kernel of k frames becomes
one 2D convolution with k times the channels, whose k parts are added, each shifted in time.
"""
import math

import numpy as np
import paddle
from paddle import nn

from ...models import posec3d
from .core import Fixed, fold, rewrites, scale_and_shift


class Frames(Fixed):
    """A layer of images ``(N·T, …) → (N·T', …)`` with kernel, stride and padding in time, and constants.

    ``forward(x, frames)`` takes T; ``left(frames)`` returns T'.
    """

    def __init__(self, kernel, stride, padding, **arrays):
        super().__init__(**arrays)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def left(self, frames):
        return (frames + 2 * self.padding - self.kernel) // self.stride + 1


class FrameConv(Frames):
    """A ``ConvBN``; its weight is ``(k·O, I, kh, kw)``, one part for each of the k frames.

    The bias is added in the middle part, which never overlaps the padding.
    """

    def __init__(self, layer):
        conv = layer._conv
        weight, bias = fold(conv, scale_and_shift(layer._batch_norm))
        kernel, padding = weight.shape[2], conv._padding[0]
        biases = np.zeros((kernel, len(bias)))
        biases[padding] = bias
        super().__init__(kernel, conv._stride[0], padding, weight=np.concatenate(np.moveaxis(weight, 2, 0)),
                         bias=biases.reshape(1, -1, 1, 1))
        self.arguments = {"stride": conv._stride[1:], "padding": conv._padding[1:], "dilation": conv._dilation[1:]}
        self.relu = layer.relu

    def forward(self, x, frames):
        if self.kernel == 1 and self.stride > 1:
            sizes = x.shape[1:]
            x = x.reshape([-1, frames, *sizes])[:, ::self.stride].reshape([-1, *sizes])
        x = nn.functional.conv2d(x, self.weight, **self.arguments) + self.bias
        return self.over_time(x, frames) if self.kernel > 1 else self.activated(x)

    def activated(self, x):
        return nn.functional.relu(x) if self.relu else x

    def over_time(self, x, frames):
        """The sum of the k parts ``(N·T, k·O, H, W) → (N·T', O, H, W)``, each shifted by its place in the kernel."""
        height, width = x.shape[2:]
        parts = x.reshape([-1, frames, self.kernel, x.shape[1] // self.kernel, height * width])
        # A part that overlaps only the padding adds nothing. The middle part always overlaps frames; it comes first.
        places = sorted((place - self.padding for place in range(self.kernel) if abs(place - self.padding) < frames),
                        key=abs)
        first, *others = (shifted(parts, place + self.padding, frames, place) for place in places)
        x = self.activated(sum(others, start=first))
        return (x[:, ::self.stride] if self.stride > 1 else x).reshape([-1, parts.shape[3], height, width])


def shifted(parts, index, frames, place):
    """``parts[:, :, index]`` moved ``place`` frames earlier (later if negative), filled with zeros."""
    # Not with nn.functional.pad: in Paddle 3.3, slices of its result lose a frame under oneDNN.
    x = parts[:, max(place, 0):frames + min(place, 0), index]
    if not place:
        return x
    zeros = paddle.zeros_like(x[:, :abs(place)])
    return paddle.concat([x, zeros] if place > 0 else [zeros, x], axis=1)


class FramePool(Frames):
    """An ``nn.MaxPool3D`` that is not padded in time."""

    def __init__(self, pool):
        (time, *kernel), (step, *stride), (_, *padding) = pool.ksize, pool.stride, pool.padding
        super().__init__(time, step, 0)
        self.arguments = {"kernel_size": kernel, "stride": stride, "padding": padding}

    def forward(self, x, frames):
        if self.stride > 1:
            sizes = x.shape[1:]
            flat = x.reshape([-1, 1, frames, math.prod(sizes)])
            x = nn.functional.max_pool2d(flat, (self.kernel, 1), (self.stride, 1)).reshape([-1, *sizes])
        return x if self.arguments["kernel_size"] == [1, 1] else nn.functional.max_pool2d(x, **self.arguments)


class FrameBlock(nn.Layer):
    """A ``Bottleneck``; only its second convolution may reduce the number of frames."""

    def __init__(self, block):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (FrameConv(conv) for conv in (block.conv1, block.conv2, block.conv3))
        self.downsample = None if block.downsample is None else FrameConv(block.downsample)

    def left(self, frames):
        return self.conv2.left(frames)

    def forward(self, x, frames):
        y = self.conv3(self.conv2(self.conv1(x, frames), frames), self.left(frames))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x, frames)))


class FrameBackbone(nn.Layer):
    """``(N, C, T, H, W)`` or ``(N, clips, C, T, H, W) → (N, T', C', H', W')``; each clip is a sample."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.LayerList(layers)

    def forward(self, x):
        channels, frames, height, width = x.shape[-4:]
        x = x.reshape([-1, channels, frames, height, width]).transpose([0, 2, 1, 3, 4])
        x = x.reshape([-1, channels, height, width])
        for layer in self.layers:
            x, frames = layer(x, frames), layer.left(frames)
        return x.reshape([-1, frames, *x.shape[1:]])


@rewrites(posec3d.ResNet3dSlowOnly)
def posec3d_backbone(layer):
    layers = [FrameConv(layer.conv1), *([] if layer.pool1 is None else [FramePool(layer.pool1)])]
    for i in range(layer.num_stages):
        layers += [FrameBlock(block) for block in getattr(layer, f"layer{i + 1}")]
        if i == 0 and layer.pool2 is not None:
            layers.append(FramePool(layer.pool2))
    return FrameBackbone(layers)
