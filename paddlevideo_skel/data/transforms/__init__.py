"""All transforms, by the names that configs use: importing this package fills ``TRANSFORMS``."""
from . import coordinates, crop, formatting, heatmaps, sampling  # noqa: F401  (they register their classes)
from .base import TRANSFORMS

__all__ = ["TRANSFORMS"]
