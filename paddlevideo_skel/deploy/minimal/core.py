"""What all rewrites share: their registry, folded numbers, and the layers that minimal networks are built from."""
import numpy as np
import paddle
from paddle import nn

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
    """A layer of constants; ``None`` stays ``None``."""

    def __init__(self, **arrays):
        super().__init__()
        for name, array in arrays.items():
            if array is None:
                setattr(self, name, None)
                continue
            parameter = self.create_parameter(list(array.shape), dtype="float32")
            parameter.set_value(np.ascontiguousarray(array, "float32"))
            parameter.stop_gradient = True
            setattr(self, name, parameter)


def swapped(arguments):
    """A convolution's stride, padding or dilation ``(T, V)`` as ``(V, T)``; one number is for both."""
    return arguments if isinstance(arguments, int) else list(arguments)[::-1]


class Conv(Fixed):
    """Convolution. Its bias is a part of it: oneDNN adds that on the way, and a ReLU behind it too."""

    def __init__(self, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        super().__init__(weight=weight, bias=bias)
        self.arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    @classmethod
    def of(cls, conv, after=None):
        """The minimal form, for frames last, of an ``nn.Conv2D`` and of the scale and shift after it."""
        weight, bias = folded(conv, after)
        return cls(weight.swapaxes(2, 3), bias, *map(swapped, (conv._stride, conv._padding, conv._dilation)),
                   conv._groups)

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight, self.bias, **self.arguments)


def with_residual(y, x, residual):
    """``relu(y + residual(x))``; ``residual`` is a layer, ``"identity"`` or None."""
    if residual is not None:
        # The sum is laid out as its first part is; under oneDNN that should be the layout that convolutions take.
        y = (x if residual == "identity" else residual(x)) + y
    return nn.functional.relu(y)


class GraphConv(Fixed):
    """Products with the graphs, and the sum over them, as one product: ``(N, C, V, T) → (N, C', V, T)``.

    Frames are last, so that of each channel the K results of ``values``, a convolution that gives ``(N, C'·K, V, T)``,
    are the rows of one matrix ``(K·V, T)``, and nothing has to be moved.

    Args:
        shift: ``(C', 1, 1)``; None where the residual has it.
    """

    def __init__(self, values, shift, residual, **arrays):
        super().__init__(shift=shift, **arrays)
        self.values, self.residual = values, residual

    def topology(self, x):
        """``(K·V, V)``, or one for each sample and channel, ``(N, C', K·V, V)``: from joint, to joint."""
        raise NotImplementedError

    def forward(self, x):
        topology, (joints, frames) = self.topology(x), x.shape[2:]
        rows = topology.shape[-2]
        width = self.values.weight.shape[0] * joints // rows
        y = paddle.matmul(topology, self.values(x).reshape([-1, width, rows, frames]), transpose_x=True)
        # The reshape keeps Paddle from adding the residual inside of oneDNN's product, which has no fast way for that
        # where the two are laid out differently: a second for each product of CTR-GCN.
        y = y.reshape([-1, width, joints, frames])
        return with_residual(y if self.shift is None else y + self.shift, x, self.residual)


def by_channel(weight, subsets):
    """A convolution's weight or bias ``(K·C, …)`` as ``(C·K, …)``."""
    return weight.reshape(subsets, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)


class FixedGraph(GraphConv):
    """``GraphConv`` of graphs ``A (K·V, V)`` that do not depend on the sample."""

    def topology(self, x):
        return self.A


def fixed_graph(A, conv, bn, residual=None):
    """``FixedGraph`` of a convolution, its products with ``A (K, V, V)`` and the BatchNorm after their sum."""
    scale, shift = scale_and_shift(bn)
    weight, bias = folded(conv, (np.tile(scale, len(A)), np.zeros(len(A) * len(scale))))
    values = Conv(by_channel(weight, len(A)), by_channel(bias, len(A)))
    return FixedGraph(values, shift.reshape(-1, 1, 1), residual, A=A.reshape(-1, A.shape[2]))


class Block(nn.Layer):
    """Graph, time, residual: ``residual`` is a layer, or ``"identity"``, or None."""

    def __init__(self, graph, time, residual):
        super().__init__()
        self.graph, self.time, self.residual = graph, time, residual

    def forward(self, x):
        return with_residual(self.time(self.graph(x)), x, self.residual)


class Backbone(Fixed):
    """``data_bn`` as a scale and a shift, every person in the batch, then the blocks.

    Args:
        order: the axes of the input as (N, persons or clips and persons, C, V, T).
        scale, shift: ``(M·C·V or C·V, 1, 1)``; None where there is no ``data_bn``.
    """

    def __init__(self, order, scale, shift, blocks):
        super().__init__(scale=scale, shift=shift)
        self.order, self.blocks = list(order), nn.Sequential(*blocks)

    def forward(self, x):
        x = x.transpose(self.order)
        sizes = x.shape[-3:]
        if self.scale is not None:
            # As channels of four axes: anything else takes the CPU kernels a general broadcast.
            x = x.reshape([-1, self.scale.shape[0], sizes[2], 1]) * self.scale + self.shift
        return self.blocks(x.reshape([-1, *sizes]))


def block(unit, graph, time):
    """``Block`` of a unit with the minimal forms of its parts."""
    residual = "identity" if unit.identity else None
    if unit.residual is not None:
        conv, bn = unit.residual.children()
        residual = Conv.of(conv, scale_and_shift(bn))
    return Block(graph, time, residual)


def data_scale(layer):
    """``data_bn`` over (M·)V·C channels as a scale and a shift ``(M·C·V or C·V, 1, 1)``, or twice None."""
    if layer.data_bn is None:
        return None, None
    shape = (-1, layer.layout.num_joints, layer.in_channels)
    return tuple(a.reshape(shape).transpose(0, 2, 1).reshape(-1, 1, 1) for a in scale_and_shift(layer.data_bn))
