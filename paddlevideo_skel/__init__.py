"""Skeleton-based action recognition on PaddlePaddle, from training to the device.

Importing this package imports no paddle. It sets the environment that paddle needs on this CPU (``cpu.py``), so import
it before paddle.
"""
from . import devices

__version__ = "0.1.0"

devices.prepare_cpu()
