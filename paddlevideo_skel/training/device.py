"""Where to train: paddle's device is set, and the processes that train together meet."""
import logging

import paddle

from ..devices import DEVICE_KEYS, find_device
from . import distributed

logger = logging.getLogger(__name__)


def choose_device(config):
    """Set paddle's device from a config's ``device``, ``use_gpu`` or ``use_npu``, or to what is there.

    Of several GPUs or NPUs it is the one that the launcher chose for this process, which then meets the others.

    Returns:
        ``cpu``, ``gpu`` or ``npu``.

    Raises:
        ConfigError, UnavailableError: see ``find_device``.
    """
    device = find_device(paddle, **{key: config.get(key) for key in DEVICE_KEYS}, where=config.where)
    local = distributed.local_device(device)
    paddle.set_device(local)
    distributed.join(device)
    logger.info("Computing on: %s%s", local, f", and {distributed.world_size() - 1} more" * (
        distributed.world_size() > 1))
    return device
