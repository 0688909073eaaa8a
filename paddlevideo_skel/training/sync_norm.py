"""BatchNorm over the batches of all processes together, by any backend: Paddle's own layer for it is for GPUs only."""
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from .distributed import world_size


class _SumOverProcesses(PyLayer):
    """The sum of every process's ``x``. Each process's loss depends on all of them, so gradients are summed as well."""

    @staticmethod
    def forward(ctx, x):
        return _sum(x)

    @staticmethod
    def backward(ctx, dy):
        return _sum(dy)


def _sum(x):
    total = x.clone()
    paddle.distributed.all_reduce(total)
    return total


class _Synchronised:
    """What BatchNorm layers do instead in training. All processes must have batches of the same size."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        kind, x = x.dtype, x.astype("float32")
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = x.size // x.shape[1] * world_size()
        mean = _SumOverProcesses.apply(x.sum(axes)) / count
        # In a second pass: the mean of squares minus the square of the mean would lose digits.
        centred = x - mean.reshape(shape)
        variance = _SumOverProcesses.apply((centred * centred).sum(axes)) / count
        with paddle.no_grad():
            for running, value in ((self._mean, mean), (self._variance, variance)):
                running.set_value(self._momentum * running + (1 - self._momentum) * value)
        scale = self.weight / (variance + self._epsilon).sqrt()
        return (centred * scale.reshape(shape) + self.bias.reshape(shape)).astype(kind)


class SyncBatchNorm1D(_Synchronised, nn.BatchNorm1D):
    """``BatchNorm1D`` over all processes."""


class SyncBatchNorm2D(_Synchronised, nn.BatchNorm2D):
    """``BatchNorm2D`` over all processes."""


class SyncBatchNorm3D(_Synchronised, nn.BatchNorm3D):
    """``BatchNorm3D`` over all processes."""


KINDS = {nn.BatchNorm1D: SyncBatchNorm1D, nn.BatchNorm2D: SyncBatchNorm2D, nn.BatchNorm3D: SyncBatchNorm3D}


def synchronise(model):
    """Let every BatchNorm of a model take its statistics over the batches of all processes.

    The layers stay where they are, with their weights and names, and learn another forward pass: models hold them in
    more ways than one. Compute such a model in the formulation ``plain``; the other one does not call its layers.
    """
    for layer in model.sublayers():
        if type(layer) in KINDS:
            layer.__class__ = KINDS[type(layer)]
