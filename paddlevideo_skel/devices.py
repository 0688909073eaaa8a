"""Where paddle computes: the device, and the CPU's threads, MKL code path and memory.

Importing the package prepares the CPU for paddle (``prepare_cpu``), so that a user's own program rounds as the commands
do: on a CPU that is not Intel's, MKL's default code path is slow, and rounds differently from the one set here.
``PADDLEVIDEO_SKEL_CPU_ENV=0`` switches all of it off. A variable that the user has set is kept.

This module does not import paddle: functions that ask it take the module as an argument.
"""
import ctypes
import logging
import os
import sys
from pathlib import Path

from .errors import ConfigError, UnavailableError, near_miss

logger = logging.getLogger(__name__)

DEVICES = ("gpu", "npu")  # in the order of preference; an NPU is a custom device of paddle with this name
DEVICE_KEYS = ("device", "use_gpu", "use_npu")
SWITCH = "PADDLEVIDEO_SKEL_CPU_ENV"
MKL = "MKL_DEBUG_CPU_TYPE"
CPUINFO = Path("/proc/cpuinfo")
# glibc's mallopt: names of its parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_NEVER = 2 ** 31 - 1


def prepare_cpu():
    """Set the environment variables of this process and its children, before paddle is imported.

    MKL reads its variable at its first product. If paddle was imported before, that may be too late, which a warning
    says.
    """
    if switched_off():
        return
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    variables = cpu_variables(read_cpuinfo(), set(usable), local_processes())
    if "paddle" in sys.modules and MKL in variables and MKL not in os.environ:
        logger.warning("paddle was imported before paddlevideo_skel: training may be slower on this CPU, and may not "
                       "be reproducible bit for bit. Import paddlevideo_skel first, or set %s=%s", MKL, variables[MKL])
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def read_cpuinfo():
    """The text of ``/proc/cpuinfo``; empty where there is none."""
    return CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""


def missing_mkl_path():
    """The code path that MKL needs on this CPU but that is not set in this process; None if nothing is missing.

    Without it results are right, but rounded differently than in processes where it is set.
    """
    path = mkl_path(parse_cpuinfo(read_cpuinfo()))
    return path if path and not os.environ.get(MKL) else None


def switched_off():
    """Whether the user switched the preparation off."""
    return os.environ.get(SWITCH, "1") == "0"


def cpu_variables(cpuinfo, usable, processes=1):
    """Environment variables for a CPU, as a dict.

    Args:
        cpuinfo: text of ``/proc/cpuinfo``, or an empty text.
        usable: numbers of the logical CPUs that this process may use.
        processes: number of processes that share them.
    """
    cpus = parse_cpuinfo(cpuinfo)
    threads = max(1, physical_cores(cpus, usable) // processes)
    variables = {"OMP_NUM_THREADS": str(threads)}
    path = mkl_path(cpus)
    if path:
        variables[MKL] = path
    return variables


def parse_cpuinfo(text):
    """A dict of fields per logical CPU."""
    return [dict(_fields(block)) for block in text.split("\n\n") if block.strip()]


def _fields(block):
    for line in block.splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def mkl_path(cpus):
    """The code path to ask of MKL, ``7`` AVX-512, ``5`` AVX2; None: its own choice is right.

    The MKL in paddle's wheel takes its slowest path on an x86 CPU that is not Intel's (AMD, Hygon, Zhaoxin).
    """
    first = cpus[0] if cpus else {}
    if first.get("vendor_id") in (None, "GenuineIntel"):
        return None
    flags = set(first.get("flags", "").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags:
        return "7"
    return "5" if {"avx2", "fma"} <= flags else None


def multiplies_8_bits_exactly(cpus):
    """Whether products of unsigned and signed bytes are exact on this CPU.

    Without VNNI, x86 adds pairs of them with saturation to 16 bits. ARM has no such instruction.
    """
    first = cpus[0] if cpus else {}
    return "Features" in first or bool({"avx512_vnni", "avx_vnni"} & set(first.get("flags", "").split()))


def physical_cores(cpus, usable):
    """The number of cores that the ``usable`` logical CPUs belong to; threads of a core share its arithmetic."""
    cores = {(cpu.get("physical id", "0"), cpu["core id"]) for cpu in cpus
             if "core id" in cpu and int(cpu.get("processor", -1)) in usable}
    return len(cores) or len(usable)


def local_processes():
    """The number of processes that ``paddle.distributed.launch`` started on this host; 1 without the launcher."""
    count = os.environ.get("PADDLE_LOCAL_SIZE") or os.environ.get("PADDLE_TRAINERS_NUM") or "1"
    return max(1, int(count)) if count.isdecimal() else 1


def keep_memory():
    """Make glibc keep freed memory for the next allocation instead of returning it to the system.

    Paddle allocates and frees activations of tens of megabytes. By default glibc maps such memory each time, and a
    training step spends much of its time in page faults. Other C libraries are left alone.
    """
    if switched_off() or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, TRIM_NEVER)


def count_devices(paddle, kind):
    """The number of devices of a kind, ``gpu`` or ``npu``, that the module ``paddle`` finds."""
    if kind == "gpu":
        return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    return sum(name.split(":")[0] == kind for name in paddle.device.get_available_custom_device() or ())


def find_device(paddle, use_gpu=None, use_npu=None, device=None, where="--{}".format):
    """The kind of device to use: the requested one, else a GPU, an NPU or the CPU, in this order.

    Args:
        paddle: the module.
        use_gpu, use_npu: True: required; False: not used; None: used if there is one.
        device: the same in one word, ``cpu``, ``gpu`` or ``npu``.
        where: maps an argument's name to where it was given, for messages.

    Returns:
        ``cpu``, ``gpu`` or ``npu``.

    Raises:
        ConfigError: an unknown device, or two at once.
        UnavailableError: the requested device is not available; no other is used instead.
    """
    wanted = {"gpu": use_gpu, "npu": use_npu}
    if device is not None:
        if device not in (*DEVICES, "cpu"):
            raise ConfigError(where("device"), f"found {device!r}", near_miss(device, (*DEVICES, "cpu")))
        for kind, asked in wanted.items():
            if asked is not None and asked != (kind == device):
                raise ConfigError(where("device"), f"is {device}, but {where(f'use_{kind}')} is {asked}",
                                  "Use only one of them")
        wanted = {kind: kind == device for kind in DEVICES}
    if all(wanted.values()):
        raise ConfigError(where("use_npu"), "both a GPU and an NPU were requested", "Choose one")
    there = {kind: wanted[kind] is not False and count_devices(paddle, kind) > 0 for kind in DEVICES}
    for kind in DEVICES:
        if wanted[kind]:
            if not there[kind]:
                key = f"use_{kind}" if device is None else "device"
                raise UnavailableError(where(key), f"this paddle finds no {kind.upper()}",
                                       f"Omit {key} to use an available device, or install paddle for that "
                                       "device; tools/doctor.py shows what this host has")
            return kind
    return next((kind for kind in DEVICES if there[kind]), "cpu")


def replace_device(config, use_gpu=None, use_npu=None):
    """Replace all that a config says about devices by the command line's ``--use_gpu`` or ``--use_npu``, if given."""
    given = {key: value for key, value in (("use_gpu", use_gpu), ("use_npu", use_npu)) if value is not None}
    if given:
        for key in DEVICE_KEYS:
            config.pop(key, None)
        config.update(given)
