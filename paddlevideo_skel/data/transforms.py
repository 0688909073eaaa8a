"""All transforms, by the names that configs use: importing this module fills ``TRANSFORMS``."""
from . import features, formatting, sampling
from .steps import TRANSFORMS

__all__ = ["TRANSFORMS", "features", "formatting", "sampling"]
