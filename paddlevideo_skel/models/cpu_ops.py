"""The operations of ``cpu``: matrix products with the gradients that Paddle's CPU kernels lack or compute slowly.

Shapes: N samples, C channels, T frames, V joints, K subsets of a graph.
"""
import math

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.utils.dlpack import from_dlpack

COLUMNS_BYTES = 16 << 20  # of a temporal convolution's shifted features at a time: so that they fit into a cache
ALIGNMENT = 64  # bytes, as Paddle's own memory


def _needs_gradient(*inputs):
    """Which of a ``PyLayer``'s input tensors need a gradient."""
    return [not tensor.stop_gradient for tensor in inputs if tensor is not None]


def _gradients(ctx, *functions):
    """The gradients of a ``PyLayer``'s inputs; None for those that need none, as Paddle requires."""
    return tuple(function() if needed else None for needed, function in zip(ctx.needed, functions))


class _SharedMatmul(PyLayer):
    """``weight (…, C', C)`` times every ``x (N, …, C, L)``, plus ``bias (C', 1)``."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.needed = _needs_gradient(x, weight, bias)
        y = paddle.matmul(weight, x)
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        return _gradients(ctx, lambda: paddle.matmul(weight, dy, transpose_x=True),
                          lambda: paddle.matmul(dy, x, transpose_y=True).sum(0),
                          lambda: paddle.matmul(dy, paddle.ones([dy.shape[2], 1], dy.dtype)).sum(0))


def shared_matmul(weight, x):
    """``weight (…, C', C)`` times every sample of ``x (N, …, C, L)``: Paddle's own gradient fails here."""
    return _SharedMatmul.apply(x, weight, None)


def pointwise_conv(x, weight, bias=None, stride=1):
    """Pointwise convolution of ``x (N, C, T, V)`` with ``weight (C', C, 1, 1)``, ``bias (C',)``, stride in time."""
    x = every_frame(x, stride)
    channels, frames, joints = x.shape[1:]
    y = _SharedMatmul.apply(x.reshape([-1, channels, frames * joints]), weight.reshape([-1, channels]),
                            None if bias is None else bias.reshape([-1, 1]))
    return y.reshape([-1, y.shape[1], frames, joints])


class _Add(PyLayer):
    """Sum of equal shapes. Its gradient is passed on without the copy that Paddle makes.

    Paddle accumulates a tensor's gradients in place. That is safe if one summand is used nowhere else, such as the end
    of a branch here: its own gradient is computed before any other arrives.
    """

    @staticmethod
    def forward(ctx, x, y):
        ctx.needed = _needs_gradient(x, y)
        return x + y

    @staticmethod
    def backward(ctx, dout):
        return _gradients(ctx, lambda: dout, lambda: dout)


def add(x, y):
    """``x + y`` of equal shapes, one of them used nowhere else."""
    return _Add.apply(x, y)


class _OverTime(PyLayer):
    """``matrix (T', T)`` times ``x (N, C, T, V)``; the matrix is constant."""

    @staticmethod
    def forward(ctx, x, matrix):
        ctx.save_for_backward(matrix)
        return paddle.matmul(matrix, x)

    @staticmethod
    def backward(ctx, dy):
        matrix, = ctx.saved_tensor()
        return paddle.matmul(matrix, dy, transpose_x=True), None


def mean_over_time(x):
    """Mean over frames, ``(N, C, T, V) → (N, C, 1, V)``."""
    return _OverTime.apply(x, paddle.full([1, x.shape[2]], 1 / x.shape[2], x.dtype))


def every_frame(x, stride):
    """Every ``stride``-th frame of ``(N, C, T, V)``."""
    return x if stride == 1 else _OverTime.apply(x, paddle.eye(x.shape[2], dtype=x.dtype)[::stride].contiguous())


def spatial_mean(x):
    """Mean over frames and joints, ``(…, C, T, V) → (…, C)``."""
    return mean_over_time(x.reshape([-1, x.shape[-3], x.shape[-2] * x.shape[-1], 1])).reshape(x.shape[:-2])


class _GraphMatmul(PyLayer):
    @staticmethod
    def forward(ctx, x, topology, bias):
        ctx.save_for_backward(x, topology)
        ctx.needed = _needs_gradient(x, topology, bias)
        y = paddle.matmul(x, topology, transpose_y=True)
        # The sum over the subsets is a product too.
        y = paddle.matmul(paddle.ones([1, x.shape[1]], x.dtype), y.flatten(2)).reshape([len(x), -1])
        if bias is not None:  # adding equal shapes is three times as fast as adding along an axis
            y.add_(paddle.matmul(paddle.ones([len(x), 1], x.dtype), bias))
        return y.reshape([-1, *x.shape[2:]])

    @staticmethod
    def backward(ctx, dy):
        x, topology = ctx.saved_tensor()
        dy = dy.unsqueeze(1)

        def dtopology():
            per_sample = paddle.matmul(dy, x, transpose_x=True)
            return per_sample if len(topology) == len(per_sample) else per_sample.sum(0, keepdim=True)

        return _gradients(ctx, lambda: paddle.matmul(dy, topology), dtopology,
                          lambda: paddle.matmul(paddle.ones([1, len(x)], dy.dtype), dy.reshape([len(x), -1])))


def graph_matmul(x, topology, bias=None):
    """``Σ_k x[:, k] · topology[:, k]ᵀ + bias``: features of K subsets propagated along their graphs and summed.

    Args:
        x: ``(N, K, …, T, V)``. topology: ``(N, K, …, V, V)``, or ``(1, …)`` for the same graphs in every sample.
        bias: the same for every sample, ``(1, … · T · V)``.

    Returns:
        ``(N, …, T, V)``.
    """
    return _GraphMatmul.apply(x, topology, bias)


class _PairwiseDifference(PyLayer):
    @staticmethod
    def forward(ctx, x, y):
        ctx.needed = _needs_gradient(x, y)
        ones = paddle.ones_like(x)
        return paddle.matmul(paddle.stack([x, ones], axis=-1), paddle.stack([ones, -y], axis=-2))

    @staticmethod
    def backward(ctx, dout):
        ones = paddle.ones([dout.shape[-1], 1], dout.dtype)
        return _gradients(ctx, lambda: paddle.matmul(dout, ones).squeeze(-1),
                          lambda: -paddle.matmul(dout, ones, transpose_x=True).squeeze(-1))


def pairwise_difference(x, y):
    """``x[…, u] - y[…, v]`` of two ``(…, V)``: ``(…, V, V)``."""
    return _PairwiseDifference.apply(x, y)


def _aligned_empty(shape, dtype):
    """``np.empty`` in aligned memory. The rounding of MKL's products depends on memory alignment, and NumPy's
    alignment varies between processes: the same seed would not give the same bits."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start:start + size].view(dtype).reshape(shape)


class _Shifts:
    """Which frames each tap of a temporal convolution reads: copies of whole frames, and their gradient.

    Args:
        shape: of x, ``(N, C, T, V)``.
    """

    def __init__(self, shape, kernel, stride, padding, dilation):
        self.shape, self.kernel = shape, kernel
        frames = shape[2]
        self.out_frames = (frames + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        self.taps = []  # number, frames that are written, and the frames of x that are read; the others are 0
        for tap in range(kernel):
            offset = tap * dilation - padding
            first, end = max(0, -(offset // stride)), min(self.out_frames, (frames - 1 - offset) // stride + 1)
            end = max(first, end)  # a tap may read nothing at all
            start = first * stride + offset
            self.taps.append((tap, slice(first, end), slice(start, start + stride * (end - first), stride)))

    def columns(self, x):
        """``x (n, C, T, V)`` shifted for every tap: ``(n, k·C, T'·V)``."""
        n, channels, _, joints = x.shape
        x = np.from_dlpack(x.detach())
        shifted = _aligned_empty((n, self.kernel, channels, self.out_frames, joints), x.dtype)
        for tap, written, read in self.taps:
            shifted[:, tap, :, :written.start] = 0
            shifted[:, tap, :, written] = x[:, :, read]
            shifted[:, tap, :, written.stop:] = 0
        return from_dlpack(shifted).reshape([n, self.kernel * channels, self.out_frames * joints])

    def add_back(self, columns, dx):
        """Add the columns' gradient to that of x, the array ``dx (n, C, T, V)``."""
        columns = np.from_dlpack(columns).reshape(len(dx), self.kernel, dx.shape[1], self.out_frames, dx.shape[3])
        for tap, written, read in self.taps:
            dx[:, :, read] += columns[:, tap, :, written]

    def parts(self):
        """Slices of the samples, each of about ``COLUMNS_BYTES`` of columns."""
        n, channels, _, joints = self.shape
        step = max(1, COLUMNS_BYTES // (4 * self.kernel * channels * self.out_frames * joints))
        return [slice(start, start + step) for start in range(0, n, step)]


class _TemporalConv(PyLayer):
    """Convolution over time as a product of the weights ``(C', C, k, 1)`` and ``_Shifts`` of ``x (N, C, T, V)``.

    Paddle's own kernel copies element by element, and twice more for the gradient. The gradient recomputes the shifted
    copies: kept, they would take k times the memory of x.
    """

    @staticmethod
    def forward(ctx, x, weight, *settings):
        ctx.save_for_backward(x, weight)
        ctx.needed = _needs_gradient(x, weight)
        ctx.shifts = _Shifts(x.shape, weight.shape[2], *settings)
        matrix = _by_tap(weight)
        parts = [paddle.matmul(matrix, ctx.shifts.columns(x[part])) for part in ctx.shifts.parts()]
        return (parts[0] if len(parts) == 1 else paddle.concat(parts)).reshape(
            [len(x), weight.shape[0], ctx.shifts.out_frames, x.shape[3]])

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        matrix, shifts = _by_tap(weight), ctx.shifts
        dy = dy.reshape([*dy.shape[:2], -1])

        def dx():
            total = _aligned_empty(x.shape, np.from_dlpack(dy).dtype)
            total[...] = 0
            for part in shifts.parts():
                shifts.add_back(paddle.matmul(matrix, dy[part], transpose_x=True), total[part])
            return from_dlpack(total)

        def dweight():
            total = sum(paddle.matmul(dy[part], shifts.columns(x[part]), transpose_y=True).sum(0)
                        for part in shifts.parts())
            return total.reshape([*total.shape[:1], shifts.kernel, x.shape[1], 1]).transpose([0, 2, 1, 3])

        return _gradients(ctx, dx, dweight)


def _by_tap(weight):
    """``(C', C, k, 1) → (C', k·C)``."""
    return weight.transpose([0, 2, 1, 3]).reshape([len(weight), -1])


def conv_without_bias(x, conv):
    """The layer ``conv``, over time or pointwise, without its bias."""
    if conv.weight.shape[2:] == [1, 1]:
        return pointwise_conv(x, conv.weight, stride=conv._stride[0])
    if x.place.is_cpu_place() and x.dtype == conv.weight.dtype and x.dtype in (paddle.float32, paddle.float64):
        return _TemporalConv.apply(x, conv.weight, conv._stride[0], conv._padding[0], conv._dilation[0])
    return nn.functional.conv2d(x, conv.weight, None, conv._stride, conv._padding, conv._dilation, conv._groups)


def batch_norm(x, norms, bias):
    """The BatchNorms ``norms`` over parts of ``x``'s channels in one call, after a convolution's ``bias (C,)``.

    The bias is not added to ``x``. In training it would shift the mean, which is subtracted again: it affects only
    the running mean, and its gradient is exactly 0. In evaluation it is folded into BatchNorm's own bias.
    """
    first = norms[0]
    running, variance = (paddle.concat([getattr(norm, name) for norm in norms]).detach()
                         for name in ("_mean", "_variance"))
    scale, shift = paddle.concat([norm.weight for norm in norms]), paddle.concat([norm.bias for norm in norms])
    if first.training:
        shift, offset = shift + (bias - bias), bias.detach()
    else:
        shift, offset = shift + bias * scale / (variance + first._epsilon).sqrt(), 0.0
    if scale.stop_gradient != shift.stop_gradient:  # Paddle's kernel computes both gradients, or fails
        scale.stop_gradient = shift.stop_gradient = False
    running = running - offset
    y = nn.functional.batch_norm(x, running, variance, scale, shift, training=first.training,
                                 momentum=first._momentum, epsilon=first._epsilon)
    if first.training:
        _store_statistics(norms, running + offset, variance)
    return y


@paddle.no_grad()
def _store_statistics(norms, mean, variance):
    """Copy the running statistics of joined BatchNorms back into each of them."""
    start = 0
    for norm in norms:
        end = start + norm._mean.shape[0]
        paddle.assign(mean[start:end], norm._mean)
        paddle.assign(variance[start:end], norm._variance)
        start = end
