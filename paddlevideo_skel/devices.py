"""Where paddle computes, and what it needs there: which device, and the CPU's threads, code path and memory.

Importing the package sets what paddle needs on this CPU (``prepare_cpu``), so that a program of one's own rounds as the
commands do: on a CPU that is not Intel's, MKL's default path is slow, and its rounding differs from that of the path
set here. Everything is off with ``PADDLEVIDEO_SKEL_CPU_ENV=0``, and a variable that the user has set stays as it is.
"""
import ctypes
import logging
import os
import sys
from pathlib import Path

from .errors import ConfigError, UnavailableError, near_miss

logger = logging.getLogger(__name__)

KINDS = ("gpu", "npu")  # in the order of preference; an NPU is a custom device of paddle, of this name
KEYS = ("device", "use_gpu", "use_npu")
SWITCH = "PADDLEVIDEO_SKEL_CPU_ENV"
MKL = "MKL_DEBUG_CPU_TYPE"
CPUINFO = Path("/proc/cpuinfo")
# glibc's mallopt: names of its parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_NEVER = 2 ** 31 - 1


def prepare_cpu():
    """Set the environment for this process, before it imports paddle, and for those that it starts.

    MKL reads its variable at its first product. If paddle is imported already, that may have happened: the variable is
    set all the same, and a warning says so.
    """
    if switched_off():
        return
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    variables = cpu_variables(read_cpuinfo(), set(usable), local_processes())
    if "paddle" in sys.modules and MKL in variables and MKL not in os.environ:
        logger.warning("paddle was imported before paddlevideo_skel: training may be slower on this CPU, and may not "
                       "repeat to the bit. Import paddlevideo_skel first, or set %s=%s", MKL, variables[MKL])
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def read_cpuinfo():
    """The text of ``/proc/cpuinfo``; empty where there is none."""
    return CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""


def missing_mkl_path():
    """The code path that MKL needs on this CPU and was not told in this process; None where nothing is missing.

    Without it, results are right, but their rounding differs from that of processes which were told.
    """
    path = mkl_path(parse_cpuinfo(read_cpuinfo()))
    return path if path and not os.environ.get(MKL) else None


def switched_off():
    """Whether the user wants nothing of this."""
    return os.environ.get(SWITCH, "1") == "0"


def cpu_variables(cpuinfo, usable, processes=1):
    """The variables for a CPU, as a dict.

    Args:
        cpuinfo: text of ``/proc/cpuinfo``; empty where there is none.
        usable: numbers of the logical CPUs that this process may use.
        processes: how many processes share them.
    """
    cpus = parse_cpuinfo(cpuinfo)
    threads = max(1, physical_cores(cpus, usable) // processes)
    variables = {"OMP_NUM_THREADS": str(threads)}
    path = mkl_path(cpus)
    if path:
        variables[MKL] = path
    return variables


def parse_cpuinfo(text):
    """A dict of fields for each logical CPU."""
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

    Without VNNI, x86 adds pairs of them in 16 bits and cuts off what is larger. ARM has no such instruction.
    """
    first = cpus[0] if cpus else {}
    return "Features" in first or bool({"avx512_vnni", "avx_vnni"} & set(first.get("flags", "").split()))


def physical_cores(cpus, usable):
    """How many cores the ``usable`` logical CPUs belong to; threads of one core only share its arithmetic."""
    cores = {(cpu.get("physical id", "0"), cpu["core id"]) for cpu in cpus
             if "core id" in cpu and int(cpu.get("processor", -1)) in usable}
    return len(cores) or len(usable)


def local_processes():
    """How many processes of ``paddle.distributed.launch`` share this host; 1 without the launcher."""
    count = os.environ.get("PADDLE_LOCAL_SIZE") or os.environ.get("PADDLE_TRAINERS_NUM") or "1"
    return max(1, int(count)) if count.isdecimal() else 1


def keep_memory():
    """Let glibc keep freed memory for the next allocation instead of giving it back to the system.

    Paddle takes and frees activations of tens of megabytes; glibc maps such memory anew each time, so that a step of
    training spends much of its time in page faults. Other C libraries are left alone.
    """
    if switched_off() or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, TRIM_NEVER)



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
