"""Where paddle computes: what was asked for, or what is there. Training and inference both ask here."""
from .errors import ConfigError, UnavailableError, near_miss

KINDS = ("gpu", "npu")  # in the order of preference; an NPU is a custom device of paddle, of this name
KEYS = ("device", "use_gpu", "use_npu")


def count_devices(kind):
    """How many devices of a kind, ``gpu`` or ``npu``, paddle finds."""
    import paddle

    if kind == "gpu":
        return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    return sum(name.split(":")[0] == kind for name in paddle.device.get_available_custom_device() or ())


def find_device(use_gpu=None, use_npu=None, device=None, where="--{}".format):
    """The kind of device to use: the one asked for, else a GPU, an NPU or the CPU, in this order.

    Args:
        use_gpu, use_npu: True: it and no other; False: not this one; None: if it is there.
        device: the same in one word, ``cpu``, ``gpu`` or ``npu``.
        where: argument's name → where it was given, for messages.

    Returns:
        ``cpu``, ``gpu`` or ``npu``.

    Raises:
        ConfigError: an unknown device, or two at once.
        UnavailableError: the device asked for is not here; nothing else is taken in its place.
    """
    wanted = {"gpu": use_gpu, "npu": use_npu}
    if device is not None:
        if device not in (*KINDS, "cpu"):
            raise ConfigError(where("device"), f"found {device!r}", near_miss(device, (*KINDS, "cpu")))
        for kind, asked in wanted.items():
            if asked is not None and asked != (kind == device):
                raise ConfigError(where("device"), f"is {device}, but {where(f'use_{kind}')} is {asked}",
                                  "Give one of them")
        wanted = {kind: kind == device for kind in KINDS}
    if all(wanted.values()):
        raise ConfigError(where("use_npu"), "a GPU and an NPU were both asked for", "Choose one")
    there = {kind: wanted[kind] is not False and count_devices(kind) > 0 for kind in KINDS}
    for kind in KINDS:
        if wanted[kind]:
            if not there[kind]:
                key = f"use_{kind}" if device is None else "device"
                raise UnavailableError(where(key), f"this paddle finds no {kind.upper()}",
                                       f"Leave {key} away to use what is there, or install paddle for the device; "
                                       "tools/doctor.py tells what this host has")
            return kind
    return next((kind for kind in KINDS if there[kind]), "cpu")


def replace_device(config, use_gpu=None, use_npu=None):
    """Let the command line's ``--use_gpu`` or ``--use_npu`` take the place of all that a config says of devices."""
    given = {key: value for key, value in (("use_gpu", use_gpu), ("use_npu", use_npu)) if value is not None}
    if given:
        for key in KEYS:
            config.pop(key, None)
        config.update(given)
