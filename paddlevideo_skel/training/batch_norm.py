"""BatchNorm beyond paddle's own: precise running statistics, and batches of all processes together."""
import contextlib

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from ..models.cpu import decelerate
from .distributed import world_size


@paddle.no_grad()
def precise_bn(model, batches, count, autocast, after_batch):
    """Replace running statistics by their plain mean over many batches: PRECISEBN (Wu & Johnson, 2021).

    Args:
        model: a recognizer; it is put into training mode. Frozen models keep their statistics.
        batches: generator of ``Batch``; closed at the end.
        count: at most this many batches.
        autocast: makes the context of a forward pass.
        after_batch: called after each batch; what it raises comes through.
    """
    model.train()
    norms = [layer for layer in model.sublayers()
             if isinstance(layer, nn.layer.norm._BatchNormBase) and layer.training]
    momenta = [layer._momentum for layer in norms]
    with contextlib.closing(batches):
        for i, batch in enumerate(batches):
            for layer in norms:
                layer._momentum = i / (i + 1)  # paddle's momentum is the share of the old value
            with autocast():
                model(paddle.to_tensor(batch.array))
            after_batch()
            if i + 1 == count:
                break
    for layer, momentum in zip(norms, momenta):
        layer._momentum = momentum


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
    """A BatchNorm layer's forward pass over all processes, whose batches must be of equal size.

    By plain sums, so that any backend can do it: paddle's own SyncBatchNorm works on GPUs only.
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.astype("float32")
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
        return (centred * scale.reshape(shape) + self.bias.reshape(shape)).astype(dtype)


class SyncBatchNorm1D(_Synchronised, nn.BatchNorm1D):
    """``BatchNorm1D`` over all processes."""


class SyncBatchNorm2D(_Synchronised, nn.BatchNorm2D):
    """``BatchNorm2D`` over all processes."""


class SyncBatchNorm3D(_Synchronised, nn.BatchNorm3D):
    """``BatchNorm3D`` over all processes."""


SYNCHRONISED = {nn.BatchNorm1D: SyncBatchNorm1D, nn.BatchNorm2D: SyncBatchNorm2D, nn.BatchNorm3D: SyncBatchNorm3D}


def synchronise(model):
    """Make every BatchNorm of a model compute its statistics over the batches of all processes.

    The layers stay where they are, with their weights and names; only their class, and so their forward pass, changes.
    The model goes back to the implementation ``conv``: the other one does not call its BatchNorms.
    """
    decelerate(model)
    for layer in model.sublayers():
        if type(layer) in SYNCHRONISED:
            layer.__class__ = SYNCHRONISED[type(layer)]
