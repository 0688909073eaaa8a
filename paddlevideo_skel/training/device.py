"""Where to compute: what the config or the user asks for, or what is there."""
import logging

import paddle

from ..errors import UnavailableError

logger = logging.getLogger(__name__)


def choose_device(config):
    """Set paddle's device from ``use_gpu`` / ``use_npu``, or take a GPU, an NPU or the CPU, in this order.

    Raises:
        UnavailableError: the device asked for is not here; nothing else is taken in its place.
    """
    gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    npu = "npu" in paddle.device.get_all_custom_device_type()
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
    paddle.set_device(device)
    logger.info("Computing on: %s", device)
    return device
