"""The minimal graph of a model: the same function with less in it.

A trained network's BatchNorm is a scale and a shift per channel. Both go into the convolution beside it, parallel
pointwise convolutions of one input become one, and whatever else is constant is computed here instead of on the
device. Rewrites are registered per Layer class, a module a model family: ``REWRITES[cls](layer)`` gives the minimal
layer.
"""
from . import ctrgcn, posec3d, recognizers, stgcn, stgcn_plusplus  # noqa: F401  (they register their rewrites)
from .core import REWRITES, minimal

__all__ = ["REWRITES", "minimal"]
