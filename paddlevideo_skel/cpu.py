"""What makes paddle fast and repeatable on this CPU, set before paddle is imported: threads, MKL's code path, memory.

Importing this package sets it, so that a program of one's own rounds as the commands do: on a CPU that is not Intel's,
MKL's default path is slow, and its rounding differs from the path that is set here. Everything is off with
``PADDLEVIDEO_SKEL_CPU_ENV=0``, and a variable that the user has set stays as it is.
"""
import ctypes
import logging
import os
import sys
from pathlib import Path

logger = logging.getLogger(__name__)

SWITCH = "PADDLEVIDEO_SKEL_CPU_ENV"
MKL = "MKL_DEBUG_CPU_TYPE"
CPUINFO = Path("/proc/cpuinfo")
# glibc's mallopt: names of its parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_NEVER = 2 ** 31 - 1


def prepare():
    """Set the environment for this process, before it imports paddle, and for those that it starts.

    MKL reads its variable at its first product. If paddle is imported already, that may have happened: the variable is
    set all the same, and a warning says so.
    """
    if switched_off():
        return
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    variables = environment(read_cpuinfo(), set(usable), local_processes())
    if "paddle" in sys.modules and MKL in variables and MKL not in os.environ:
        logger.warning("paddle was imported before paddlevideo_skel: training may be slower on this CPU, and may not "
                       "repeat to the bit. Import paddlevideo_skel first, or set %s=%s", MKL, variables[MKL])
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def read_cpuinfo():
    """The text of ``/proc/cpuinfo``; empty where there is none."""
    return CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""


def missing_path():
    """The code path that MKL needs on this CPU and was not told in this process; None where nothing is missing.

    Without it, results are right, but their rounding differs from that of processes which were told.
    """
    path = mkl_path(parse_cpuinfo(read_cpuinfo()))
    return path if path and not os.environ.get(MKL) else None


def switched_off():
    """Whether the user wants nothing of this."""
    return os.environ.get(SWITCH, "1") == "0"


def environment(cpuinfo, usable, processes=1):
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
