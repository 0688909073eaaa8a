"""Transforms of whole batches."""
import numbers

from ..registry import Registry

MIXES = Registry("batch transform")


@MIXES.register
class Mixup:
    """Every sample blended with another of its batch (Zhang et al., ICLR 2018): x ← λ·x + (1 − λ)·x[perm].

    Args:
        alpha: λ ~ Beta(alpha, alpha), one λ a batch.
        num_classes: PaddleVideo's; not needed, as labels stay numbers and the losses are blended.
    """

    def __init__(self, alpha, num_classes=None):
        if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 < alpha < float("inf"):
            raise ValueError(f"alpha is {alpha!r}, expected a number over 0")
        self.alpha = float(alpha)

    def __call__(self, array, label, rng):
        """Blend.

        Args:
            array: ``(B, …)`` float32; not changed.
            label: ``(B,)``.
            rng: NumPy ``Generator``.

        Returns:
            ``(array, (label[perm], λ))``: loss and accuracy are λ·f(label) + (1 − λ)·f(label[perm]).
        """
        lam = float(rng.beta(self.alpha, self.alpha))
        order = rng.permutation(len(array))
        # Weights in the array's own type: a float64 λ would double the batch's size.
        mixed = array * array.dtype.type(lam) + array[order] * array.dtype.type(1 - lam)
        return mixed, (label[order], lam)
