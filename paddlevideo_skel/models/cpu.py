"""Two ways to compute the same layers: ``plain``, and ``products`` for Paddle's CPU kernels.

``plain`` is convolutions, pooling and means, as the papers write them. GPUs and NPUs run it, an ordinary export traces
it, and it is the reference that tests compare with. ``products`` is the same network out of matrix products: Paddle's
CPU convolutions, its means' gradients and its sums over broadcast axes are several times slower than MKL's products
(``docs/performance.md``). Layers ask ``products(x)`` which of the two to compute. The environment variable
``PADDLEVIDEO_SKEL_FORMULATION`` chooses one for a process.
"""
import os
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.utils.dlpack import from_dlpack

from ..errors import ConfigError

FORMULATIONS = ("plain", "products")
VARIABLE = "PADDLEVIDEO_SKEL_FORMULATION"
COLUMNS_BYTES = 16 << 20  # of a temporal convolution's shifted features at a time: what a cache holds


def _said():
    """The formulation that the environment says, or None."""
    name = os.environ.get(VARIABLE) or None
    if name not in (None, *FORMULATIONS):
        raise ConfigError(VARIABLE, f"is {name!r}, expected {' or '.join(FORMULATIONS)}", "Or unset it")
    return name


_chosen = {"name": _said()}


@contextmanager
def formulation(name):
    """Compute in the formulation ``name``, ``plain`` or ``products``, within this context; None: by the device."""
    if name not in (None, *FORMULATIONS):
        raise ValueError(f"formulation is {name!r}, expected one of {FORMULATIONS}")
    before, _chosen["name"] = _chosen["name"], name
    try:
        yield
    finally:
        _chosen["name"] = before


def products(x):
    """Whether to compute the features ``x`` by products: on a CPU, and never into a graph that is exported."""
    if not paddle.in_dynamic_mode() or _chosen["name"] == "plain":
        return False
    return _chosen["name"] == "products" or x.place.is_cpu_place()


class _Pointwise(PyLayer):
    """``weight (…, C', C)`` times every ``x (N, …, C, L)``, plus ``bias (C', 1)``."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.learn = _learn(x, weight, bias)
        y = paddle.matmul(weight, x)
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        return _gradients(ctx, lambda: paddle.matmul(weight, dy, transpose_x=True),
                          lambda: paddle.matmul(dy, x, transpose_y=True).sum(0),
                          lambda: paddle.matmul(dy, paddle.ones([dy.shape[2], 1], dy.dtype)).sum(0))


def _learn(*inputs):
    """Which of a layer's input tensors want a gradient."""
    return [not tensor.stop_gradient for tensor in inputs if tensor is not None]


def _gradients(ctx, *functions):
    """The gradients of a layer's inputs, None for those that want none, as ``PyLayer`` demands."""
    return tuple(function() if learn else None for learn, function in zip(ctx.learn, functions))


def shared_product(weight, x):
    """``weight (…, C', C)`` times every sample of ``x (N, …, C, L)``: Paddle's own gradient of it fails."""
    return _Pointwise.apply(x, weight, None)


def pointwise(x, weight, bias=None, stride=1):
    """Pointwise convolution of ``x (N, C, T, V)`` with ``weight (C', C, 1, 1)``, ``bias (C',)``, stride in time."""
    x = every(x, stride)
    channels, frames, joints = x.shape[1:]
    y = _Pointwise.apply(x.reshape([-1, channels, frames * joints]), weight.reshape([-1, channels]),
                         None if bias is None else bias.reshape([-1, 1]))
    return y.reshape([-1, y.shape[1], frames, joints])


class _Add(PyLayer):
    """Sum of equal shapes. Its gradient is handed on as it is, where Paddle's own copies it.

    Paddle adds up a tensor's gradients in place; that harms nobody where one summand is used nowhere else, as here the
    end of a branch is: its own gradient is computed before anything else arrives.
    """

    @staticmethod
    def forward(ctx, x, y):
        ctx.learn = _learn(x, y)
        return x + y

    @staticmethod
    def backward(ctx, dout):
        return _gradients(ctx, lambda: dout, lambda: dout)


def add(x, y):
    """``x + y`` of equal shapes."""
    return _Add.apply(x, y) if products(x) else x + y


class _OverTime(PyLayer):
    @staticmethod
    def forward(ctx, x, matrix):
        ctx.save_for_backward(matrix)
        return paddle.matmul(matrix, x)

    @staticmethod
    def backward(ctx, dy):
        matrix, = ctx.saved_tensor()
        return paddle.matmul(matrix, dy, transpose_x=True), None


def time_mean(x):
    """Mean over frames, ``(N, C, T, V) → (N, C, 1, V)``."""
    if not products(x):
        return x.mean(axis=2, keepdim=True)
    return _OverTime.apply(x, paddle.full([1, x.shape[2]], 1 / x.shape[2], x.dtype))


def every(x, stride):
    """Every ``stride``-th frame of ``(N, C, T, V)``."""
    return x if stride == 1 else _OverTime.apply(x, paddle.eye(x.shape[2], dtype=x.dtype)[::stride].contiguous())


def mean(x):
    """Mean over frames and joints, ``(…, C, T, V) → (…, C)``."""
    if not products(x):
        return x.mean(axis=[-2, -1])
    return time_mean(x.reshape([-1, x.shape[-3], x.shape[-2] * x.shape[-1], 1])).reshape(x.shape[:-2])


class _GraphProducts(PyLayer):
    @staticmethod
    def forward(ctx, x, topology, bias):
        ctx.save_for_backward(x, topology)
        ctx.learn = _learn(x, topology, bias)
        y = paddle.matmul(x, topology, transpose_y=True)
        # The sum over the subsets as a product too.
        y = paddle.matmul(paddle.ones([1, x.shape[1]], x.dtype), y.flatten(2)).reshape([len(x), -1])
        if bias is not None:  # the addition of equal shapes is three times as fast as that along an axis
            y.add_(paddle.matmul(paddle.ones([len(x), 1], x.dtype), bias))
        return y.reshape([-1, *x.shape[2:]])

    @staticmethod
    def backward(ctx, dy):
        x, topology = ctx.saved_tensor()
        dy = dy.unsqueeze(1)

        def dtopology():
            each = paddle.matmul(dy, x, transpose_x=True)
            return each if topology.shape[0] == each.shape[0] else each.sum(0, keepdim=True)

        return _gradients(ctx, lambda: paddle.matmul(dy, topology), dtopology,
                          lambda: paddle.matmul(paddle.ones([1, len(x)], dy.dtype), dy.reshape([len(x), -1])))


def graph_products(x, topology, bias=None):
    """``Σ_k x[:, k] · topology[:, k]ᵀ + bias``: features of K subsets sent along their graphs, and added up.

    Args:
        x: ``(N, K, …, T, V)``. topology: ``(N, K, …, V, V)``, or ``(1, …)`` for the same graphs in every sample.
        bias: the same for every sample, ``(1, … · T · V)``.

    Returns:
        ``(N, …, T, V)``.
    """
    return _GraphProducts.apply(x, topology, bias)


class _Differences(PyLayer):
    @staticmethod
    def forward(ctx, x, y):
        ctx.learn = _learn(x, y)
        ones = paddle.ones_like(x)
        return paddle.matmul(paddle.stack([x, ones], axis=-1), paddle.stack([ones, -y], axis=-2))

    @staticmethod
    def backward(ctx, dout):
        ones = paddle.ones([dout.shape[-1], 1], dout.dtype)
        return _gradients(ctx, lambda: paddle.matmul(dout, ones).squeeze(-1),
                          lambda: -paddle.matmul(dout, ones, transpose_x=True).squeeze(-1))


def differences(x, y):
    """``x[…, u] - y[…, v]`` of two ``(…, V)``: ``(…, V, V)``."""
    return _Differences.apply(x, y)


def joined(tensors):
    """Parameters of layers side by side as those of one."""
    return paddle.concat(tensors)


def batch_norm(x, norms, bias):
    """The BatchNorms ``norms`` over parts of ``x``'s channels in one call, after a convolution's ``bias (C,)``.

    The bias is not added to ``x``. In training it would shift the mean that is taken off again: it is seen in the
    running mean only, and its gradient is exactly 0. In evaluation it becomes a part of BatchNorm's own.
    """
    first = norms[0]
    running, variance = (joined([getattr(norm, name) for norm in norms]).detach() for name in ("_mean", "_variance"))
    scale, shift = joined([norm.weight for norm in norms]), joined([norm.bias for norm in norms])
    if first.training:
        shift, offset = shift + (bias - bias), bias.detach()
    else:
        shift, offset = shift + bias * scale / (variance + first._epsilon).sqrt(), 0.0
    if scale.stop_gradient != shift.stop_gradient:  # Paddle's kernel gives both gradients, or fails
        scale.stop_gradient = shift.stop_gradient = False
    running = running - offset
    y = nn.functional.batch_norm(x, running, variance, scale, shift, training=first.training,
                                 momentum=first._momentum, epsilon=first._epsilon)
    if first.training:
        _keep(norms, running + offset, variance)
    return y


@paddle.no_grad()
def _keep(norms, mean, variance):
    """Put the running statistics of joined BatchNorms back into each of them."""
    start = 0
    for norm in norms:
        end = start + norm._mean.shape[0]
        paddle.assign(mean[start:end], norm._mean)
        paddle.assign(variance[start:end], norm._variance)
        start = end


def joined_conv(convs):
    """Weight and bias of pointwise convolutions of the same input, side by side."""
    return joined([conv.weight for conv in convs]), joined([conv.bias for conv in convs])


def conv_norm(x, conv, norm):
    """A convolution and the BatchNorm after it."""
    if not products(x):
        return norm(conv(x))
    return batch_norm(convolution(x, conv), [norm], conv.bias)


class _Shifts:
    """Which frames each of a temporal convolution's taps reads: copies of whole frames, and their gradient."""

    def __init__(self, shape, kernel, stride, padding, dilation):
        self.shape, self.kernel = shape, kernel
        frames = shape[2]
        self.made = (frames + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        self.taps = []  # number, frames that are made, and the frames of x they come from; all others are 0
        for tap in range(kernel):
            offset = tap * dilation - padding
            first, end = max(0, -(offset // stride)), min(self.made, (frames - 1 - offset) // stride + 1)
            end = max(first, end)  # a tap may read nothing at all
            start = first * stride + offset
            self.taps.append((tap, slice(first, end), slice(start, start + stride * (end - first), stride)))

    def columns(self, x):
        """``x (n, C, T, V)`` shifted for every tap: ``(n, k·C, T'·V)``."""
        n, channels, _, joints = x.shape
        x = np.from_dlpack(x.detach())
        shifted = np.empty((n, self.kernel, channels, self.made, joints), x.dtype)
        for tap, made, read in self.taps:
            shifted[:, tap, :, :made.start] = 0
            shifted[:, tap, :, made] = x[:, :, read]
            shifted[:, tap, :, made.stop:] = 0
        return from_dlpack(shifted).reshape([n, self.kernel * channels, self.made * joints])

    def add_back(self, columns, dx):
        """Add the columns' gradient to that of x, the array ``dx (n, C, T, V)``."""
        columns = np.from_dlpack(columns).reshape(len(dx), self.kernel, dx.shape[1], self.made, dx.shape[3])
        for tap, made, read in self.taps:
            dx[:, :, read] += columns[:, tap, :, made]

    def parts(self):
        """Slices of the samples, each of about ``COLUMNS_BYTES`` of columns."""
        n, channels, _, joints = self.shape
        step = max(1, COLUMNS_BYTES // (4 * self.kernel * channels * self.made * joints))
        return [slice(start, start + step) for start in range(0, n, step)]


class _TemporalConv(PyLayer):
    """Convolution over time as a product of the weights ``(C', C, k, 1)`` and ``_Shifts`` of ``x (N, C, T, V)``.

    Paddle's own copies number by number, and twice more for the gradient. The shifted copies are made anew for the
    gradient: kept, they would take k times the memory of x.
    """

    @staticmethod
    def forward(ctx, x, weight, *settings):
        ctx.save_for_backward(x, weight)
        ctx.learn = _learn(x, weight)
        ctx.shifts = _Shifts(x.shape, weight.shape[2], *settings)
        matrix = _by_tap(weight)
        parts = [paddle.matmul(matrix, ctx.shifts.columns(x[part])) for part in ctx.shifts.parts()]
        return (parts[0] if len(parts) == 1 else paddle.concat(parts)).reshape(
            [len(x), weight.shape[0], ctx.shifts.made, x.shape[3]])

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        matrix, shifts = _by_tap(weight), ctx.shifts
        dy = dy.reshape([*dy.shape[:2], -1])

        def dx():
            made = np.zeros(x.shape, np.from_dlpack(dy).dtype)
            for part in shifts.parts():
                shifts.add_back(paddle.matmul(matrix, dy[part], transpose_x=True), made[part])
            return from_dlpack(made)

        def dweight():
            made = sum(paddle.matmul(dy[part], shifts.columns(x[part]), transpose_y=True).sum(0)
                       for part in shifts.parts())
            return made.reshape([*made.shape[:1], shifts.kernel, x.shape[1], 1]).transpose([0, 2, 1, 3])

        return _gradients(ctx, dx, dweight)


def _by_tap(weight):
    """``(C', C, k, 1) → (C', k·C)``."""
    return weight.transpose([0, 2, 1, 3]).reshape([len(weight), -1])


def convolution(x, conv):
    """The layer ``conv``, over time or pointwise, without its bias."""
    if conv.weight.shape[2:] == [1, 1]:
        return pointwise(x, conv.weight, stride=conv._stride[0])
    if x.place.is_cpu_place() and x.dtype == conv.weight.dtype and x.dtype in (paddle.float32, paddle.float64):
        return _TemporalConv.apply(x, conv.weight, conv._stride[0], conv._padding[0], conv._dilation[0])
    return nn.functional.conv2d(x, conv.weight, None, conv._stride, conv._padding, conv._dilation, conv._groups)


def join_branches(x, branches):
    """The branches of a multi-scale temporal block up to their last bias and BatchNorm.

    All but the last one begin with a pointwise convolution, BatchNorm and ReLU, which are computed together; then a
    ``TemporalConv`` or a maximum. The last one is a pointwise convolution.

    Returns:
        their results side by side, ``(N, C, T', V)``, and the bias ``(C,)`` that is still to be added.
    """
    *branches, point = branches
    point = point[0] if isinstance(point, nn.Sequential) else point
    convs, norms = [branch[0] for branch in branches], [branch[1] for branch in branches]
    weight, bias = joined_conv(convs)
    y = nn.functional.relu(batch_norm(pointwise(x, weight), norms, bias))
    made, biases = [], []
    for part, branch in zip(y.split([conv.weight.shape[0] for conv in convs], axis=1), branches):
        last = branch[3]
        if isinstance(last, nn.MaxPool2D):
            made.append(last(part))
            biases.append(paddle.zeros_like(branch[0].bias))
        else:
            made.append(convolution(part, last.conv))
            biases.append(last.conv.bias)
    return paddle.concat([*made, convolution(x, point)], axis=1), paddle.concat([*biases, point.bias])
