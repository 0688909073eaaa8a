"""The minimal graph of a model: the same function with less in it.

A trained network's BatchNorm is a scale and a shift per channel. Both go into the convolution beside it, parallel
pointwise convolutions of one input become one, and whatever else is constant is computed here instead of on the
device. Rewrites are registered per Layer class: ``REWRITES[cls](layer)`` gives the minimal layer.
"""
import math

import numpy as np
import paddle
from paddle import nn

from ..errors import ExportError
from ..models import ctrgcn, stgcn_plusplus
from ..models.heads import PooledHead
from ..models.recognizers import RecognizerGCN

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


# Scales and shifts -------------------------------------------------------------------------------------------------

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
    """Weight ``(O, I, kh, kw)`` and bias ``(O,)`` of a convolution, with a scale and shift after it folded in."""
    weight = numbers(conv.weight)
    bias = np.zeros(len(weight)) if conv.bias is None else numbers(conv.bias)
    scale, shift = after or unit_scale(len(weight))
    return weight * scale[:, None, None, None], bias * scale + shift


def join(*pairs):
    """Several ``(weight, bias)`` of convolutions of one input as those of one convolution."""
    return tuple(np.concatenate(parts) for parts in zip(*pairs))


# Layers ------------------------------------------------------------------------------------------------------------

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


class Pool(Fixed):
    """Maximum over three frames, then a scale and a shift.

    The size of the scale is moved into the convolution before the pooling; only its sign cannot pass a maximum.
    """

    def __init__(self, pool, scale, shift):
        signs = np.where(scale < 0, -1.0, 1.0).reshape(-1, 1, 1)
        super().__init__(signs=None if (signs > 0).all() else signs,
                         shift=None if not shift.any() else shift.reshape(-1, 1, 1))
        self.arguments = {"kernel_size": pool.ksize, "stride": pool.stride, "padding": pool.padding}

    def forward(self, x):
        x = nn.functional.max_pool2d(x, **self.arguments)
        x = x if self.signs is None else x * self.signs
        return x if self.shift is None else x + self.shift


class Branches(nn.Layer):
    """Temporal branches: one pointwise convolution for those that begin with one, then each its own."""

    def __init__(self, entry, widths, lasts, point):
        super().__init__()
        self.entry, self.widths, self.lasts, self.point = entry, widths, nn.LayerList(lasts), point

    def forward(self, x):
        parts = nn.functional.relu(self.entry(x)).split(self.widths, axis=1)
        return paddle.concat([last(part) for last, part in zip(self.lasts, parts)] + [self.point(x)], axis=1)


class Mixed(nn.Layer):
    """Branches, then a convolution of them all: ST-GCN++'s temporal block."""

    def __init__(self, branches, mix):
        super().__init__()
        self.branches, self.mix = branches, mix

    def forward(self, x):
        return self.mix(nn.functional.relu(self.branches(x)))


class RefinedGraph(Fixed):
    """CTR-GCN's three refined graph convolutions and the residual: ``(N, C, T, V) → (N, C', T, V)``.

    ``values`` makes the three inputs of the products and, where the residual is a convolution, that too;
    ``features`` the three queries and the three keys.
    """

    def __init__(self, values, features, refine, A, shift, residual):
        super().__init__(A=A, shift=shift)
        self.values, self.features, self.refine, self.residual = values, features, refine, residual

    def forward(self, x):
        query, key = self.features(x.mean(axis=2, keepdim=True)).split(2, axis=1)
        topology = self.refine(paddle.tanh(query - key.transpose([0, 1, 3, 2])))
        subsets, frames, joints = self.A.shape[0], x.shape[2], x.shape[3]
        width = topology.shape[1] // subsets
        values, residual = self.values(x), x
        if self.residual:
            values, residual = values.split([subsets * width, width], axis=1)
        # The sum over subsets is part of one matrix product, (T, K·V) by (K·V, V).
        topology = (topology.reshape([-1, subsets, width, joints, joints]) + self.A).transpose([0, 2, 1, 3, 4])
        values = values.reshape([-1, subsets, width, frames, joints]).transpose([0, 2, 3, 1, 4])
        y = paddle.matmul(values.reshape([-1, width, frames, subsets * joints]),
                          topology.reshape([-1, width, subsets * joints, joints])) + residual
        return nn.functional.relu(y if self.shift is None else y + self.shift)


class FixedGraph(nn.Layer):
    """ST-GCN++'s graph convolution: the products with the adjacency first, then one convolution of them all."""

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


class Recognizer(Fixed):
    """Backbone, mean, linear layer. The mean over clips is taken before the linear layer, which is the same."""

    def __init__(self, backbone, sequence_axes, weight, bias):
        super().__init__(weight=weight, bias=bias)
        self.backbone, self.sequence_axes = backbone, sequence_axes

    def forward(self, x):
        sequences = math.prod(x.shape[axis] for axis in self.sequence_axes)
        y = self.backbone(x).mean(axis=[2, 3])
        return paddle.matmul(y.reshape([-1, sequences, y.shape[1]]).mean(axis=1), self.weight) + self.bias


# Rewrites ----------------------------------------------------------------------------------------------------------

def temporal_branches(branches, after, entries):
    """``Branches`` of a multi-scale temporal block.

    Args:
        branches: the block's layers; the last of them is the lone pointwise convolution.
        after: ``(scale, shift)`` behind each branch.
        entries: the last layer of each branch but the lone one, a convolution or a pooling.
    """
    pairs, lasts = [], []
    for branch, last, (scale, shift) in zip(branches, entries, after):
        weight, bias = folded(branch[0], scale_and_shift(branch[1]))
        if isinstance(last, nn.MaxPool2D):
            size = np.abs(scale)
            weight, bias = weight * size[:, None, None, None], bias * size
            lasts.append(Pool(last, scale, shift))
        else:
            lasts.append(Conv.of(last, (scale, shift)))
        pairs.append((weight, bias))
    widths = [len(bias) for _, bias in pairs]
    return Branches(Conv(*join(*pairs)), widths, lasts, Conv.of(branches[-1], after[-1]))


@rewrites(ctrgcn.MultiScaleTemporalConv)
def ctrgcn_time(layer):
    *branches, point = layer.branches
    convs = [branch[-1] for branch in branches[:-1]]
    entries = [conv.conv for conv in convs] + [branches[-1][3]]
    after = [scale_and_shift(bn) for bn in (*(conv.bn for conv in convs), branches[-1][4], point[1])]
    return temporal_branches([*branches, point[0]], after, entries)


@rewrites(stgcn_plusplus.MultiScaleTemporalConv)
def stgcn_plusplus_time(layer):
    *branches, point = layer.branches
    entries = [getattr(branch[3], "conv", branch[3]) for branch in branches]
    widths = [branch[0].weight.shape[0] for branch in branches] + [point.weight.shape[0]]
    scale, shift = scale_and_shift(layer.transform[0])
    ends = np.cumsum(widths)
    after = [(scale[end - width:end], shift[end - width:end]) for end, width in zip(ends, widths)]
    return Mixed(temporal_branches([*branches, point], after, entries),
                 Conv.of(layer.transform[2], scale_and_shift(layer.bn)))


@rewrites(ctrgcn.GraphConv)
def ctrgcn_graph(layer):
    A = numbers(layer.PA if layer.adaptive else layer.A)
    alpha = float(numbers(layer.alpha)[0])
    scale, shift = scale_and_shift(layer.bn)
    no_shift = np.zeros_like(shift)
    values = [folded(conv.conv3, (scale, no_shift)) for conv in layer.convs]
    if layer.down is not None:
        weight, bias = folded(layer.down[0], scale_and_shift(layer.down[1]))
        values.append((weight, bias + shift))
    queries, keys = ([folded(getattr(conv, name)) for conv in layer.convs] for name in ("conv1", "conv2"))
    # Only the difference of query and key is used: the query's bias can hold both.
    queries = [(weight, bias - other) for (weight, bias), (_, other) in zip(queries, keys)]
    keys = [(weight, np.zeros_like(bias)) for weight, bias in keys]
    refine = join(*((weight * alpha, bias * alpha) for weight, bias in (folded(conv.conv4) for conv in layer.convs)))
    return RefinedGraph(Conv(*join(*values)), Conv(*join(*queries, *keys)), Conv(*refine, groups=len(A)),
                        A.transpose(0, 2, 1)[:, None], shift.reshape(-1, 1, 1) if layer.down is None else None,
                        layer.down is not None)


@rewrites(stgcn_plusplus.GraphConv)
def stgcn_plusplus_graph(layer):
    A = numbers(layer.graph())
    scale, shift = scale_and_shift(layer.bn)
    weight, bias = folded(layer.conv, (np.tile(scale, len(A)), np.zeros(len(A) * len(scale))))
    weights = np.split(weight, len(A))
    # A convolution's bias reaches joint v once for every joint that sends to it.
    constant = shift[:, None] + sum(np.outer(b, a.sum(axis=0)) for b, a in zip(np.split(bias, len(A)), A))
    residual = None
    if layer.with_res:
        residual = "identity" if layer.down is None else "conv"
    if residual == "conv":
        down, down_bias = folded(layer.down[0], scale_and_shift(layer.down[1]))
        weights.append(down)
        constant = constant + down_bias[:, None]
    return FixedGraph(A, Conv(np.concatenate(weights, axis=1)), constant[:, None], residual)


def block(unit, graph, time):
    """``Block`` of a unit with its parts."""
    residual = "identity" if unit.identity else None
    if unit.residual is not None:
        residual = Conv.of(unit.residual.conv, scale_and_shift(unit.residual.bn))
    return Block(minimal(graph), minimal(time), residual)


@rewrites(ctrgcn.Unit)
def ctrgcn_unit(unit):
    return block(unit, unit.gcn1, unit.tcn1)


@rewrites(stgcn_plusplus.Block)
def stgcn_plusplus_block(unit):
    return block(unit, unit.gcn, unit.tcn)


def data_scale(layer):
    """``data_bn`` over (M·)V·C channels as a scale and a shift ``(M or 1, C, 1, V)``, or twice None."""
    if layer.data_bn is None:
        return None, None
    shape = (-1, layer.layout.num_joints, layer.in_channels)
    return tuple(a.reshape(shape).transpose(0, 2, 1)[:, :, None] for a in scale_and_shift(layer.data_bn))


@rewrites(ctrgcn.CTRGCN)
def ctrgcn_backbone(layer):
    units = [getattr(layer, f"l{unit}") for unit in range(1, layer.num_units + 1)]
    return Backbone((0, 4, 1, 2, 3), *data_scale(layer), [minimal(unit) for unit in units])


@rewrites(stgcn_plusplus.STGCNPlusPlus)
def stgcn_plusplus_backbone(layer):
    return Backbone((0, 1, 2, 5, 3, 4), *data_scale(layer), [minimal(unit) for unit in layer.gcn])


@rewrites(RecognizerGCN)
def recognizer(model):
    if not isinstance(model.head, PooledHead):
        raise ExportError(type(model.head).__name__, "has no minimal form", "Use the ordinary export")
    fc = getattr(model.head, model.head.linear)
    # Clips and persons of the input: their features are averaged.
    axes = (4,) if isinstance(model.backbone, ctrgcn.CTRGCN) else (1, 2)
    return Recognizer(minimal(model.backbone), axes, numbers(fc.weight), numbers(fc.bias))
