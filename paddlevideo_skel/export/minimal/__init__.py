"""The minimal graph of a model: the same function with fewer operators and parameters.

A trained BatchNorm is a scale and a shift per channel. Both are folded into the adjacent convolution, parallel
pointwise convolutions of one input become one, and everything constant is computed in advance. A rewrite is registered
per Layer class, in one module per model family: ``MINIMAL_REWRITES[cls](layer)`` returns the minimal layer.
"""
from . import ctrgcn, posec3d, stgcn, stgcn_plusplus  # noqa: F401  (they register their rewrites)
from .core import MINIMAL_REWRITES, minimise

__all__ = ["MINIMAL_REWRITES", "minimise"]
