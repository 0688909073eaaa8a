"""PRECISEBN: running statistics replaced by their plain mean over many batches (Wu & Johnson, 2021)."""
import contextlib

import paddle


@paddle.no_grad()
def precise_bn(model, batches, count, autocast, after_batch):
    """Give every BatchNorm that learns the mean of its statistics over batches.

    Args:
        model: a recognizer; it is put into training mode.
        batches: generator of ``Batch``; closed at the end.
        count: at most so many of them.
        autocast: makes the context of a forward pass.
        after_batch: called after each; what it raises comes through.
    """
    model.train()
    norms = [layer for layer in model.sublayers()
             if isinstance(layer, paddle.nn.layer.norm._BatchNormBase) and layer.training]
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
