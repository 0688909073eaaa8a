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


class Conv(Fixed):
    """Convolution; its bias is added as ``(C, 1, 1)``, which a graph holds without reshaping it."""

    def __init__(self, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        super().__init__(weight=weight, bias=None if bias is None else bias.reshape(-1, 1, 1))
        self.arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    @classmethod
    def of(cls, conv, after=None):
        """The minimal form of an ``nn.Conv2D`` and of the scale and shift after it."""
        return cls(*folded(conv, after), conv._stride, conv._padding, conv._dilation, conv._groups)

    def forward(self, x):
        y = nn.functional.conv2d(x, self.weight, **self.arguments)
        return y if self.bias is None else y + self.bias


class FixedGraph(nn.Layer):
    """A fixed graph's convolution: the products with the adjacency first, then one convolution of them all."""

    def __init__(self, adjacency, conv, shift, residual):
        super().__init__()
        self.adjacency, self.conv, self.residual = nn.LayerList([Fixed(A=A) for A in adjacency]), conv, residual
        self.last = Fixed(shift=shift)

    def forward(self, x):
        channels, frames, joints = x.shape[1:]
        # Reshaped for oneDNN too: in Paddle 3.3 its matrix product misreads the blocked layout of a convolution's
        # result, and a reshape brings that back to the plain one.
        flat = x.reshape([-1, channels * frames, joints])
        parts = [paddle.matmul(flat, subset.A) for subset in self.adjacency]
        parts = paddle.concat([*parts, flat] if self.residual == "conv" else parts, axis=1)
        y = self.conv(parts.reshape([-1, self.conv.weight.shape[1], frames, joints])) + self.last.shift
        return nn.functional.relu(y + x if self.residual == "identity" else y)


def fixed_graph(A, conv, bn, residual=None, down=None):
    """``FixedGraph`` of a convolution, its products with ``A (K, V, V)`` and the BatchNorm after their sum.

    Args:
        residual: None, ``identity``, or ``conv`` with ``down``, that convolution's weight and bias.
    """
    scale, shift = scale_and_shift(bn)
    weight, bias = folded(conv, (np.tile(scale, len(A)), np.zeros(len(A) * len(scale))))
    weights = np.split(weight, len(A))
    # A convolution's bias reaches joint v once for every joint that sends to it.
    constant = shift[:, None] + sum(np.outer(b, a.sum(axis=0)) for b, a in zip(np.split(bias, len(A)), A))
    if residual == "conv":
        weights.append(down[0])
        constant = constant + down[1][:, None]
    return FixedGraph(A, Conv(np.concatenate(weights, axis=1)), constant[:, None], residual)


class Block(nn.Layer):
    """Graph, time, residual: ``residual`` is a layer, or ``"identity"``, or None."""

    def __init__(self, graph, time, residual):
        super().__init__()
        self.graph, self.time, self.residual = graph, time, residual

    def forward(self, x):
        y = self.time(self.graph(x))
        if self.residual == "identity":
            y = y + x
        elif self.residual is not None:
            y = y + self.residual(x)
        return nn.functional.relu(y)


class Backbone(Fixed):
    """``data_bn`` as a scale and a shift, every person in the batch, then the blocks.

    Args:
        order: the axes of the input as (N, persons or clips and persons, C, T, V).
        scale, shift: ``(M or 1, C, 1, V)``; None where there is no ``data_bn``.
    """

    def __init__(self, order, scale, shift, blocks):
        super().__init__(scale=scale, shift=shift)
        self.order, self.blocks = list(order), nn.Sequential(*blocks)

    def forward(self, x):
        x = x.transpose(self.order)
        if self.scale is not None:
            x = x * self.scale + self.shift
        return self.blocks(x.reshape([-1, *x.shape[-3:]]))


def block(unit, graph, time):
    """``Block`` of a unit with the minimal forms of its parts."""
    residual = "identity" if unit.identity else None
    if unit.residual is not None:
        conv, bn = unit.residual.children()
        residual = Conv.of(conv, scale_and_shift(bn))
    return Block(graph, time, residual)


def data_scale(layer):
    """``data_bn`` over (M·)V·C channels as a scale and a shift ``(M or 1, C, 1, V)``, or twice None."""
    if layer.data_bn is None:
        return None, None
    shape = (-1, layer.layout.num_joints, layer.in_channels)
    return tuple(a.reshape(shape).transpose(0, 2, 1)[:, :, None] for a in scale_and_shift(layer.data_bn))
