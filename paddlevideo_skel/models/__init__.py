"""Networks: array in, logits out. State-dict names and shapes are PaddleVideo's."""
from . import ctrgcn, heads, posec3d, stgcn, stgcn_plusplus  # noqa: F401  (they register their classes)
from .recognizers import build_model, check_model

__all__ = ["build_model", "check_model"]
