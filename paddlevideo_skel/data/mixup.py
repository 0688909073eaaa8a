"""Transforms of whole batches."""
import numbers

from ..registry import Registry

MIXES = Registry("batch transform")


@MIXES.register
class Mixup:
    """Blend every sample with another of its batch (mixup, Zhang et al., ICLR 2018): x ← λ·x + (1 − λ)·x[perm].

    Args:
        alpha: λ ~ Beta(alpha, alpha), one λ per batch.
        num_classes: PaddleVideo's argument, unused: labels stay integers, and the losses are blended.
    """

    def __init__(self, alpha, num_classes=None):
        if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 < alpha < float("inf"):
            raise ValueError(f"alpha is {alpha!r}, expected a positive number")
        self.alpha = float(alpha)

    def __call__(self, array, label, rng):
        """Blend a batch.

        Args:
            array: ``(B, …)`` float32; not changed.
            label: ``(B,)``.
            rng: NumPy ``Generator``.

        Returns:
            ``(array, (label[perm], λ))``: loss and accuracy are λ·f(label) + (1 − λ)·f(label[perm]).
        """
        lam = float(rng.beta(self.alpha, self.alpha))
        order = rng.permutation(len(array))
        # λ in the array's type: a float64 λ would double the batch's memory.
        mixed = array * array.dtype.type(lam) + array[order] * array.dtype.type(1 - lam)
        return mixed, (label[order], lam)
