"""What makes paddle fast on this CPU, decided before paddle is imported: threads, MKL's code path, memory kept.

Everything is off with ``PADDLEVIDEO_SKEL_CPU_ENV=0``, and a variable that the user has set stays as it is.
"""
import ctypes
import os
import sys
from pathlib import Path

SWITCH = "PADDLEVIDEO_SKEL_CPU_ENV"
CPUINFO = Path("/proc/cpuinfo")
# glibc's mallopt: names of its parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_NEVER = 2 ** 31 - 1


def prepare():
    """Set the environment for this process, before it imports paddle, and for those that it starts."""
    if switched_off():
        return
    cpuinfo = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    for name, value in environment(cpuinfo, set(usable), local_processes()).items():
        os.environ.setdefault(name, value)


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
    cpus = [dict(_fields(block)) for block in cpuinfo.split("\n\n") if block.strip()]
    threads = max(1, physical_cores(cpus, usable) // processes)
    variables = {"OMP_NUM_THREADS": str(threads)}
    path = mkl_path(cpus)
    if path:
        variables["MKL_DEBUG_CPU_TYPE"] = path
    return variables


def _fields(block):
    for line in block.splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def mkl_path(cpus):
    """The code path to ask of MKL, ``7`` AVX-512, ``5`` AVX2; None: its own choice is right.

    The MKL in paddle's wheel takes its slowest path on a CPU that is not Intel's.
    """
    first = cpus[0] if cpus else {}
    if first.get("vendor_id") != "AuthenticAMD":
        return None
    flags = set(first.get("flags", "").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags:
        return "7"
    return "5" if {"avx2", "fma"} <= flags else None


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
