"""Shared by all rewrites: their registry, folded weights, and the layers that minimal models are built from."""
import math

import numpy as np
import paddle
from paddle import nn
from paddle.nn.initializer import Constant

from ...errors import ExportError
from ...models.heads import PooledHead
from ...models.recognizers import Recognizer3D, RecognizerGCN

MINIMAL_REWRITES = {}


def rewrites(*classes):
    """Decorator of a function that makes the minimal form of a layer of these classes."""
    def register(function):
        MINIMAL_REWRITES.update(dict.fromkeys(classes, function))
        return function
    return register


def minimise(layer):
    """The minimal form of a layer in evaluation mode; the layer itself does not change.

    Raises:
        ExportError: its class has no rewrite.
    """
    for cls in type(layer).__mro__:
        if cls in MINIMAL_REWRITES:
            slim = MINIMAL_REWRITES[cls](layer)
            slim.eval()
            return slim
    known = ", ".join(cls.__name__ for cls in MINIMAL_REWRITES)
    raise ExportError(type(layer).__name__, "has no minimal version",
                      f"Use the ordinary export. Layers with a minimal version: {known}")


def to_float64(tensor):
    """A parameter's values in float64, so that folding rounds only once."""
    return tensor.numpy().astype("float64")


def scale_and_shift(bn):
    """BatchNorm in evaluation mode as ``(scale, shift)``, each ``(C,)``."""
    scale = to_float64(bn.weight) / np.sqrt(to_float64(bn._variance) + bn._epsilon)
    return scale, to_float64(bn.bias) - to_float64(bn._mean) * scale


def no_scale(channels):
    """A scale and a shift without effect."""
    return np.ones(channels), np.zeros(channels)


def fold(conv, after=None):
    """Weight ``(O, I, …)`` and bias ``(O,)`` of a convolution, with a scale and shift after it folded in."""
    weight = to_float64(conv.weight)
    bias = np.zeros(len(weight)) if conv.bias is None else to_float64(conv.bias)
    scale, shift = after or no_scale(len(weight))
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def join_convolutions(*pairs):
    """Several ``(weight, bias)`` of convolutions of one input as those of one convolution."""
    return tuple(np.concatenate(parts) for parts in zip(*pairs))


class Fixed(nn.Layer):
    """A layer of constants, float32 but for those of uint8; ``None`` stays ``None``."""

    def __init__(self, **arrays):
        super().__init__()
        for name, array in arrays.items():
            if array is None:
                setattr(self, name, None)
                continue
            dtype = "uint8" if array.dtype == np.uint8 else "float32"
            parameter = self.create_parameter(list(array.shape), dtype=dtype, default_initializer=Constant(0))
            parameter.set_value(np.ascontiguousarray(array, dtype))
            parameter.stop_gradient = True
            setattr(self, name, parameter)


def swap_axes(arguments):
    """A convolution's stride, padding or dilation ``(T, V)`` as ``(V, T)``; a single number is unchanged."""
    return arguments if isinstance(arguments, int) else list(arguments)[::-1]


class Conv(Fixed):
    """Convolution. oneDNN fuses a bias of the shape ``(1, C, 1, 1)``, and a ReLU after it."""

    def __init__(self, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        super().__init__(weight=weight, bias=None if bias is None else np.reshape(bias, (1, -1, 1, 1)))
        self.arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    @classmethod
    def of(cls, conv, after=None):
        """The minimal form, with frames last, of an ``nn.Conv2D`` and the scale and shift after it."""
        weight, bias = fold(conv, after)
        return cls(weight.swapaxes(2, 3), bias, *map(swap_axes, (conv._stride, conv._padding, conv._dilation)),
                   conv._groups)

    def forward(self, x):
        y = nn.functional.conv2d(x, self.weight, None, **self.arguments)
        return y if self.bias is None else y + self.bias


class Pointwise(Fixed):
    """Pointwise convolution ``(N, C, V, T) → (N, C', V·T)`` as a product.

    Under oneDNN, convolutions put the channels last. The product that follows would need all results of a convolution
    transposed; this way only the features are transposed, a third of the data.
    """

    def __init__(self, weight, bias):
        super().__init__(weight=weight.reshape(weight.shape[:2]), bias=bias.reshape(-1, 1))

    def forward(self, x):
        return paddle.matmul(self.weight, x.reshape([-1, x.shape[1], x.shape[2] * x.shape[3]])) + self.bias


class MinimalGraphConv(Fixed):
    """Products with the graphs, and the sum over them, as one product: ``(N, C, V, T) → (N, C', V, T)``.

    Frames are last: then the K results of ``values``, ``(N, C'·K, V·T)``, are for each channel the rows of one matrix
    ``(K·V, T)``, and nothing has to be transposed.

    Args:
        shift: ``(1, C', 1, 1)``; None if the residual includes it.
    """

    def __init__(self, values, shift, residual, **arrays):
        super().__init__(shift=shift, **arrays)
        self.values, self.residual = values, residual

    def topology(self, x):
        """``(K·V, V)``, or one per sample and channel, ``(N, C', K·V, V)``: from joint, to joint.

        Negated if there is a residual.
        """
        raise NotImplementedError

    def forward(self, x):
        topology, (joints, frames) = self.topology(x), x.shape[2:]
        rows = topology.shape[-2]
        width = self.values.weight.shape[0] * joints // rows
        y = paddle.matmul(topology, self.values(x).reshape([-1, width, rows, frames]), transpose_x=True)
        if self.residual is not None:
            # Not a sum: Paddle would fuse it into oneDNN's product, which is slow if the two have different layouts, a
            # second for each product of CTR-GCN.
            y = (x if self.residual == "identity" else self.residual(x)) - y
        return nn.functional.relu(y if self.shift is None else y + self.shift)


def by_channel(weight, subsets):
    """A convolution's weight or bias ``(K·C, …)`` as ``(C·K, …)``."""
    return weight.reshape(subsets, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)


class FixedGraph(MinimalGraphConv):
    """``MinimalGraphConv`` of graphs ``A (K·V, V)`` that do not depend on the sample."""

    def topology(self, x):
        return self.A


class GraphFirst(Fixed):
    """``FixedGraph`` of a unit that widens, ``(N, C, V, T) → (N, C', V, T)``: the graphs come before the convolution.

    So the product has fewer channels, and what follows it stays in the layout of convolutions. The product turns the V
    rows of each channel into K·V; a convolution of K taps, V rows apart, sums over graphs and channels.

    Args:
        ones: pointwise convolution ``(N, C, V, T) → (N, C + 1, V, T)``, whose last channel is 1: its product with the
            graphs weights the bias of ``conv`` for each joint.
        conv: ``(N, C + 1, K·V, T) → (N, C', V, T)``. residual: a layer or None. A: ``(K·V, V)``: to joint, from joint.
    """

    def __init__(self, ones, conv, residual, A):
        super().__init__(A=A)
        self.ones, self.conv, self.residual = ones, conv, residual

    def forward(self, x):
        y = self.ones(x)
        # The reshape changes no shape, but under oneDNN puts the channels first again; without it the product is wrong.
        y = self.conv(paddle.matmul(self.A, y.reshape([-1, *y.shape[1:]])))
        return nn.functional.relu(y if self.residual is None else self.residual(x) + y)


def minimise_graph(A, conv, bn, residual=None):
    """A convolution, its products with ``A (K, V, V)``, the BatchNorm after their sum, a residual, and the ReLU."""
    (subsets, joints, _), (scale, shift) = A.shape, scale_and_shift(bn)
    weight, bias = fold(conv, (np.tile(scale, subsets), np.zeros(subsets * len(scale))))
    channels = weight.shape[1]
    if channels < len(scale):
        ones = Conv(np.eye(channels + 1, channels)[:, :, None, None], np.append(np.zeros(channels), 1))
        taps = np.column_stack([weight[:, :, 0, 0], bias]).reshape(subsets, len(scale), -1, 1)
        return GraphFirst(ones, Conv(taps.transpose(1, 2, 0, 3), shift, dilation=[joints, 1]), residual,
                          A.swapaxes(1, 2).reshape(-1, joints))
    values = Pointwise(by_channel(weight, subsets), by_channel(bias, subsets))
    A = A if residual is None else -A
    return FixedGraph(values, shift.reshape(1, -1, 1, 1), residual, A=A.reshape(-1, joints))


class MinimalUnit(nn.Layer):
    """Graph, time, residual: ``residual`` is a layer, or ``"identity"``, or None."""

    def __init__(self, graph, time, residual):
        super().__init__()
        self.graph, self.time, self.residual = graph, time, residual

    def forward(self, x):
        y = self.time(self.graph(x))
        if self.residual is not None:
            # A sum has the layout of its first term; under oneDNN that should be the layout of convolutions.
            y = (x if self.residual == "identity" else self.residual(x)) + y
        return nn.functional.relu(y)


class MinimalBackbone(Fixed):
    """``data_bn`` as a scale and a shift, every person in the batch, then the blocks.

    Args:
        order: the axes of the input as (N, persons or clips and persons, C, V, T).
        scale, shift: ``(1, M·C·V or C·V, 1, 1)``; None where there is no ``data_bn``.
    """

    def __init__(self, order, scale, shift, blocks):
        super().__init__(scale=scale, shift=shift)
        self.order, self.blocks = list(order), nn.Sequential(*blocks)

    def forward(self, x):
        x = x.transpose(self.order)
        sizes = x.shape[-3:]
        if self.scale is not None:
            # With four axes and the scale on channels: anything else would be a general broadcast on CPUs.
            x = x.reshape([-1, self.scale.shape[1], sizes[2], 1]) * self.scale + self.shift
        return self.blocks(x.reshape([-1, *sizes]))


def minimise_unit(unit, graph, time):
    """``MinimalUnit`` of a unit with the minimal forms of its parts."""
    residual = "identity" if unit.identity else None
    if unit.residual is not None:
        conv, bn = unit.residual.children()
        residual = Conv.of(conv, scale_and_shift(bn))
    return MinimalUnit(graph, time, residual)


def fold_data_bn(layer):
    """``data_bn`` over (M·)V·C channels as scale and shift ``(1, M·C·V or C·V, 1, 1)``; or twice None."""
    if layer.data_bn is None:
        return None, None
    shape = (-1, layer.layout.num_joints, layer.in_channels)
    return tuple(a.reshape(shape).transpose(0, 2, 1).reshape(1, -1, 1, 1) for a in scale_and_shift(layer.data_bn))


class Pool(Fixed):
    """Maximum over three frames, then a scale and a shift.

    The absolute value of the scale is folded into the convolution before the pooling; its sign cannot pass a maximum.
    """

    def __init__(self, pool, scale, shift):
        signs = np.where(scale < 0, -1.0, 1.0).reshape(-1, 1, 1)
        super().__init__(signs=None if (signs > 0).all() else signs,
                         shift=None if not shift.any() else shift.reshape(-1, 1, 1))
        self.arguments = {"kernel_size": swap_axes(pool.ksize), "stride": swap_axes(pool.stride),
                          "padding": swap_axes(pool.padding)}

    def forward(self, x):
        x = nn.functional.max_pool2d(x, **self.arguments)
        x = x if self.signs is None else x * self.signs
        return x if self.shift is None else x + self.shift


class Branches(nn.Layer):
    """Temporal branches: one pointwise convolution for all that begin with one, then each branch's own layer."""

    def __init__(self, entry, widths, lasts, point):
        super().__init__()
        self.entry, self.widths, self.lasts, self.point = entry, widths, nn.LayerList(lasts), point

    def forward(self, x):
        parts = nn.functional.relu(self.entry(x)).split(self.widths, axis=1)
        return paddle.concat([last(part) for last, part in zip(self.lasts, parts)] + [self.point(x)], axis=1)


def minimise_branches(branches, after, entries):
    """``Branches`` of a multi-scale temporal block.

    Args:
        branches: the block's layers; the last one is only a pointwise convolution.
        after: ``(scale, shift)`` after each branch.
        entries: the last layer, a convolution or a pooling, of every other branch.
    """
    pairs, lasts = [], []
    for branch, last, (scale, shift) in zip(branches, entries, after):
        weight, bias = fold(branch[0], scale_and_shift(branch[1]))
        if isinstance(last, nn.MaxPool2D):
            size = np.abs(scale)
            weight, bias = weight * size[:, None, None, None], bias * size
            lasts.append(Pool(last, scale, shift))
        else:
            lasts.append(Conv.of(last, (scale, shift)))
        pairs.append((weight, bias))
    widths = [len(bias) for _, bias in pairs]
    return Branches(Conv(*join_convolutions(*pairs)), widths, lasts, Conv.of(branches[-1], after[-1]))


class MinimalRecognizer(Fixed):
    """Backbone, mean, linear layer. The mean over clips comes before the linear layer, which is equivalent."""

    def __init__(self, backbone, sequence_axes, weight, bias):
        super().__init__(weight=weight, bias=bias)
        self.backbone, self.sequence_axes = backbone, sequence_axes

    def forward(self, x):
        sequences = math.prod(x.shape[axis] for axis in self.sequence_axes)
        y = self.backbone(x)
        y = y.reshape([-1, sequences, y.shape[1], y.shape[2] * y.shape[3]]).mean(axis=3)
        return paddle.matmul(y.mean(axis=1), self.weight) + self.bias


@rewrites(RecognizerGCN)
def minimise_gcn_recognizer(model):
    if not isinstance(model.head, PooledHead):
        raise ExportError(type(model.head).__name__, "has no minimal version", "Use the ordinary export")
    fc = getattr(model.head, model.head.linear)
    return MinimalRecognizer(minimise(model.backbone), model.backbone.sequence_axes,
                             to_float64(model.head.linear_weight()), to_float64(fc.bias))


class ClipRecognizer(Fixed):
    """Backbone, mean over frames, height and width, linear layer, mean of the clips' scores."""

    def __init__(self, backbone, weight, bias):
        super().__init__(weight=weight, bias=bias)
        self.backbone = backbone

    def forward(self, x):
        clips = x.shape[1:-4]
        y = self.backbone(x).mean(axis=[-2, -1])
        logits = paddle.matmul(y.mean(axis=1), self.weight) + self.bias
        return Recognizer3D.average(logits.reshape([-1, *clips, logits.shape[1]]))


@rewrites(Recognizer3D)
def minimise_clip_recognizer(model):
    weight, bias = to_float64(model.head.linear_weight()), to_float64(model.head.fc.bias)
    return ClipRecognizer(minimise(model.backbone), weight, bias)
