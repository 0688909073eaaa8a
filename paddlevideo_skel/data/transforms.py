"""All transforms, by the names that configs use: importing this module fills ``TRANSFORMS``."""
from . import camera, features, formatting, framing, heatmaps, sampling
from .steps import TRANSFORMS

__all__ = ["TRANSFORMS", "camera", "features", "formatting", "framing", "heatmaps", "sampling"]
