"""What all rewrites share: their registry, folded numbers, and the layers that minimal networks are built from."""
import numpy as np
import paddle
from paddle import nn
from paddle.nn.initializer import Constant

from ...errors import ExportError

REWRITES = {}


def rewrites(*classes):
    """Decorator: the function makes the minimal layer of a layer of these classes."""
    def register(function):
        REWRITES.update(dict.fromkeys(classes, function))
        return function
    return register


def minimal(layer):
    """The minimal form of a layer in evaluation mode; the layer itself stays as it is.

    Raises:
        ExportError: there is no rewrite for its class.
    """
    for cls in type(layer).__mro__:
        if cls in REWRITES:
            slim = REWRITES[cls](layer)
            slim.eval()
            return slim
    known = ", ".join(cls.__name__ for cls in REWRITES)
    raise ExportError(type(layer).__name__, "has no minimal form", f"Use the ordinary export. Known here: {known}")


def numbers(tensor):
    """A parameter's values in float64, so that folding itself rounds only once."""
    return tensor.numpy().astype("float64")


def scale_and_shift(bn):
    """BatchNorm in evaluation mode as ``(scale, shift)``, each ``(C,)``."""
    scale = numbers(bn.weight) / np.sqrt(numbers(bn._variance) + bn._epsilon)
    return scale, numbers(bn.bias) - numbers(bn._mean) * scale


def unit_scale(channels):
    """The scale and shift that change nothing."""
    return np.ones(channels), np.zeros(channels)


def folded(conv, after=None):
    """Weight ``(O, I, …)`` and bias ``(O,)`` of a convolution, with a scale and shift after it folded in."""
    weight = numbers(conv.weight)
    bias = np.zeros(len(weight)) if conv.bias is None else numbers(conv.bias)
    scale, shift = after or unit_scale(len(weight))
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def join(*pairs):
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


def swapped(arguments):
    """A convolution's stride, padding or dilation ``(T, V)`` as ``(V, T)``; one number is for both."""
    return arguments if isinstance(arguments, int) else list(arguments)[::-1]


class Conv(Fixed):
    """Convolution. In its form, ``(1, C, 1, 1)``, oneDNN adds the bias on the way, and a ReLU behind it too."""

    def __init__(self, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        super().__init__(weight=weight, bias=None if bias is None else np.reshape(bias, (1, -1, 1, 1)))
        self.arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    @classmethod
    def of(cls, conv, after=None):
        """The minimal form, for frames last, of an ``nn.Conv2D`` and of the scale and shift after it."""
        weight, bias = folded(conv, after)
        return cls(weight.swapaxes(2, 3), bias, *map(swapped, (conv._stride, conv._padding, conv._dilation)),
                   conv._groups)

    def forward(self, x):
        y = nn.functional.conv2d(x, self.weight, None, **self.arguments)
        return y if self.bias is None else y + self.bias


class Pointwise(Fixed):
    """Pointwise convolution ``(N, C, V, T) → (N, C', V·T)`` as a product.

    Convolutions put the channels last under oneDNN; behind this one is a product, for which all results of a
    convolution would have to be moved. So what is moved is the features, a third of that.
    """

    def __init__(self, weight, bias):
        super().__init__(weight=weight.reshape(weight.shape[:2]), bias=bias.reshape(-1, 1))

    def forward(self, x):
        return paddle.matmul(self.weight, x.reshape([-1, x.shape[1], x.shape[2] * x.shape[3]])) + self.bias


class MinimalGraphConv(Fixed):
    """Products with the graphs, and the sum over them, as one product: ``(N, C, V, T) → (N, C', V, T)``.

    Frames are last, so that of each channel the K results of ``values``, which are ``(N, C'·K, V·T)``, are the rows of
    one matrix ``(K·V, T)``, and nothing has to be moved.

    Args:
        shift: ``(1, C', 1, 1)``; None where the residual has it.
    """

    def __init__(self, values, shift, residual, **arrays):
        super().__init__(shift=shift, **arrays)
        self.values, self.residual = values, residual

    def topology(self, x):
        """``(K·V, V)``, or one for each sample and channel, ``(N, C', K·V, V)``: from joint, to joint.

        The negative one where there is a residual.
        """
        raise NotImplementedError

    def forward(self, x):
        topology, (joints, frames) = self.topology(x), x.shape[2:]
        rows = topology.shape[-2]
        width = self.values.weight.shape[0] * joints // rows
        y = paddle.matmul(topology, self.values(x).reshape([-1, width, rows, frames]), transpose_x=True)
        if self.residual is not None:
            # A sum Paddle would do inside of oneDNN's product, which has no fast way for it where the two are laid out
            # differently: a second for each product of CTR-GCN.
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
    """``FixedGraph`` of a unit that widens: ``(N, C, V, T) → (N, C', V, T)``, the graphs before the convolution.

    So fewer channels go through the product, and what follows it stays in the layout of convolutions. The product makes
    K·V rows of each channel's V; a convolution of K taps, V rows apart, sums over graphs and channels.

    Args:
        ones: pointwise convolution ``(N, C, V, T) → (N, C + 1, V, T)``, whose last channel is 1: multiplied with the
            graphs it says how often the bias of ``conv`` comes to each joint.
        conv: ``(N, C + 1, K·V, T) → (N, C', V, T)``. residual: a layer or None. A: ``(K·V, V)``: to joint, from joint.
    """

    def __init__(self, ones, conv, residual, A):
        super().__init__(A=A)
        self.ones, self.conv, self.residual = ones, conv, residual

    def forward(self, x):
        y = self.ones(x)
        # The same shape: under oneDNN this puts the channels first again. A product would do without, and be wrong.
        y = self.conv(paddle.matmul(self.A, y.reshape([-1, *y.shape[1:]])))
        return nn.functional.relu(y if self.residual is None else self.residual(x) + y)


def fixed_graph(A, conv, bn, residual=None):
    """A convolution, its products with ``A (K, V, V)``, the BatchNorm after their sum, a residual, and the ReLU."""
    (subsets, joints, _), (scale, shift) = A.shape, scale_and_shift(bn)
    weight, bias = folded(conv, (np.tile(scale, subsets), np.zeros(subsets * len(scale))))
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
            # The sum is laid out as its first part is; under oneDNN that should be the layout that convolutions take.
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
            # As channels of four axes: anything else takes the CPU kernels a general broadcast.
            x = x.reshape([-1, self.scale.shape[1], sizes[2], 1]) * self.scale + self.shift
        return self.blocks(x.reshape([-1, *sizes]))


def block(unit, graph, time):
    """``MinimalUnit`` of a unit with the minimal forms of its parts."""
    residual = "identity" if unit.identity else None
    if unit.residual is not None:
        conv, bn = unit.residual.children()
        residual = Conv.of(conv, scale_and_shift(bn))
    return MinimalUnit(graph, time, residual)


def data_scale(layer):
    """``data_bn`` over (M·)V·C channels as a scale and a shift ``(1, M·C·V or C·V, 1, 1)``, or twice None."""
    if layer.data_bn is None:
        return None, None
    shape = (-1, layer.layout.num_joints, layer.in_channels)
    return tuple(a.reshape(shape).transpose(0, 2, 1).reshape(1, -1, 1, 1) for a in scale_and_shift(layer.data_bn))
