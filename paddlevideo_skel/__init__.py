"""Skeleton-based action recognition on PaddlePaddle, from training to the device.

Importing this package does not import paddle. It sets the environment that paddle needs on this CPU (``devices.py``):
import it before paddle.
"""
from . import devices

__version__ = "0.2.0"

devices.prepare_cpu()
