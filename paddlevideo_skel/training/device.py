"""Where to compute: what the config or the user asks for, or what is there."""
import logging

import paddle

from ..errors import UnavailableError
from . import distributed

logger = logging.getLogger(__name__)


def count_devices(kind):
    """How many devices of a kind, ``gpu`` or ``npu``, paddle finds."""
    if kind == "gpu":
        return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    return sum(name.split(":")[0] == kind for name in paddle.device.get_available_custom_device() or ())


def choose_device(config):
    """Set paddle's device from ``use_gpu`` / ``use_npu``, or take a GPU, an NPU or the CPU, in this order.

    Of several GPUs or NPUs it is the one that the launcher chose for this process, which then meets the others.

    Returns:
        ``cpu``, ``gpu`` or ``npu``.

    Raises:
        UnavailableError: the device asked for is not here; nothing else is taken in its place.
    """
    gpu, npu = count_devices("gpu") > 0, count_devices("npu") > 0
    for name, there in (("gpu", gpu), ("npu", npu)):
        if config.get(f"use_{name}") and not there:
            raise UnavailableError(config.where(f"use_{name}"), f"this paddle finds no {name.upper()}",
                                   f"Set use_{name}: False, or install paddle for it")
    if gpu and config.get("use_gpu") is not False and not config.get("use_npu"):
        device = "gpu"
    elif npu and config.get("use_npu") is not False:
        device = "npu"
    else:
        device = "cpu"
    local = distributed.local_device(device)
    paddle.set_device(local)
    distributed.join(device)
    logger.info("Computing on: %s%s", local, f", and {distributed.world_size() - 1} more" * (
        distributed.world_size() > 1))
    return device
