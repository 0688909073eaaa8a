"""Skeleton-based action recognition on PaddlePaddle, from training to the device."""

__version__ = "0.1.0"
