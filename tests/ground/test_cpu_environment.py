"""What is set for a CPU, from the text of its /proc/cpuinfo."""
import os
import subprocess
import sys

import pytest
from paths import ROOT

from paddlevideo_skel import devices

AVX512 = "fpu sse2 avx fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"


def cpuinfo(vendor, flags, cpus=4, per_core=2):
    """Logical CPUs as Linux writes them; ``per_core`` neighbours share a core."""
    return "".join(f"processor\t: {i}\nvendor_id\t: {vendor}\nmodel name\t: Some 7 CPU: fast\nphysical id\t: 0\n"
                   f"core id\t\t: {i // per_core}\nflags\t\t: {flags}\npower management:\n\n" for i in range(cpus))


@pytest.mark.parametrize(("vendor", "flags", "path"), [
    ("AuthenticAMD", AVX512, "7"), ("AuthenticAMD", "fpu sse2 avx fma avx2", "5"),
    ("AuthenticAMD", "fpu sse2 avx fma avx2 avx512f", "5"), ("AuthenticAMD", "fpu sse2 avx", None),
    ("HygonGenuine", "fpu sse2 avx fma avx2", "5"), ("GenuineIntel", AVX512, None),
    ("GenuineIntel", "fpu sse2 avx fma avx2", None)])
def test_mkl_is_told_its_path_unless_the_cpu_is_intels(vendor, flags, path):
    assert devices.cpu_variables(cpuinfo(vendor, flags), {0, 1, 2, 3}).get("MKL_DEBUG_CPU_TYPE") == path


@pytest.mark.parametrize(("text", "exact"), [
    (cpuinfo("AuthenticAMD", AVX512), True), (cpuinfo("GenuineIntel", "fpu avx2 avx_vnni"), True),
    (cpuinfo("AuthenticAMD", "fpu sse2 avx fma avx2"), False), ("", False),
    ("processor\t: 0\nFeatures\t: fp asimd asimddp\n\n", True)])
def test_which_cpus_multiply_8_bits_exactly(text, exact):
    assert devices.multiplies_8_bits_exactly(devices.parse_cpuinfo(text)) == exact


@pytest.mark.parametrize(("usable", "processes", "threads"), [
    ({0, 1, 2, 3}, 1, 2), ({0, 1, 2, 3}, 2, 1), ({0, 2}, 1, 2), ({0, 1}, 1, 1), ({3}, 1, 1), ({0, 1, 2, 3}, 5, 1)])
def test_a_thread_for_each_core_that_may_be_used(usable, processes, threads):
    assert devices.cpu_variables(cpuinfo("GenuineIntel", AVX512), usable, processes)["OMP_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize("text", ["", "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve\n\n"])
def test_a_host_that_tells_no_cores(text):
    assert devices.cpu_variables(text, {0, 1, 2}) == {"OMP_NUM_THREADS": "3"}


def test_cores_of_two_sockets_are_two():
    text = "".join(f"processor: {i}\nphysical id: {i}\ncore id: 0\n\n" for i in range(2))
    assert devices.cpu_variables(text, {0, 1}) == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(("variables", "processes"), [
    ({}, 1), ({"PADDLE_TRAINERS_NUM": "4"}, 4), ({"PADDLE_LOCAL_SIZE": "2", "PADDLE_TRAINERS_NUM": "4"}, 2),
    ({"PADDLE_TRAINERS_NUM": "four"}, 1)])
def test_processes_of_the_launcher(monkeypatch, variables, processes):
    for name in ("PADDLE_TRAINERS_NUM", "PADDLE_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert devices.local_processes() == processes


@pytest.fixture
def amd(monkeypatch, tmp_path):
    """A host with AMD's CPU and a clean environment; what is set is undone."""
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo("AuthenticAMD", AVX512, os.cpu_count() or 1, 1))
    monkeypatch.setattr(devices, "CPUINFO", path)
    for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", devices.SWITCH, "PADDLE_TRAINERS_NUM", "PADDLE_LOCAL_SIZE"):
        monkeypatch.setenv(name, "")  # remembered, so that what the test sets is undone
        monkeypatch.delenv(name)


def test_what_is_not_set_is_set(amd):
    devices.prepare_cpu()
    assert os.environ["MKL_DEBUG_CPU_TYPE"] == "7"
    assert int(os.environ["OMP_NUM_THREADS"]) >= 1


def test_what_the_user_has_set_stays(amd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "4")
    devices.prepare_cpu()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_DEBUG_CPU_TYPE"]) == ("5", "4")


def test_one_variable_switches_it_off(amd, monkeypatch):
    monkeypatch.setenv(devices.SWITCH, "0")
    devices.prepare_cpu()
    assert not {"OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE"} & set(os.environ)


IMPORTS = """
import logging, os, pathlib, sys
sys.path.insert(0, {root!r})
logging.basicConfig(format="%(message)s")
{first}
import paddlevideo_skel
assert ("paddle" in sys.modules) == {late}
print(os.environ.get("MKL_DEBUG_CPU_TYPE"))
"""


@pytest.mark.parametrize(("first", "late"), [("", False), ("sys.modules['paddle'] = None", True)])
def test_importing_the_package_sets_the_variables(first, late):
    """Of this host, whatever it is; paddle itself is not imported for it."""
    environment = {name: value for name, value in os.environ.items() if name not in (devices.MKL, "OMP_NUM_THREADS")}
    run = subprocess.run([sys.executable, "-c", IMPORTS.format(root=str(ROOT), first=first, late=late)], text=True,
                         capture_output=True, env={**environment, devices.SWITCH: "1"}, check=True)
    path = devices.mkl_path(devices.parse_cpuinfo(devices.read_cpuinfo()))
    assert run.stdout.strip() == str(path)
    assert ("paddle was imported before paddlevideo_skel" in run.stderr) == bool(late and path)


def test_paddle_that_was_imported_first_is_told_in_one_line(amd, caplog):
    assert "paddle" in sys.modules or pytest.importorskip("paddle")
    assert devices.missing_mkl_path() == "7"
    devices.prepare_cpu()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "set MKL_DEBUG_CPU_TYPE=7" in caplog.text and len(caplog.messages[0].splitlines()) == 1
    assert devices.missing_mkl_path() is None
    devices.prepare_cpu()
    assert len(caplog.records) == 1


FAULTS = """
import ctypes, resource, sys
sys.path.insert(0, {root!r})
from paddlevideo_skel import devices
devices.keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def use():
    block = ctypes.c_void_p(libc.malloc(40_000_000))
    ctypes.memset(block, 1, 40_000_000)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None,
                    reason="glibc's allocator")
def test_freed_memory_is_kept():
    """40 MB taken and freed twenty times: pages are mapped again only where memory went back to the system."""
    def faults(switch):
        run = subprocess.run([sys.executable, "-c", FAULTS.format(root=str(ROOT))], capture_output=True, text=True,
                             env={**os.environ, devices.SWITCH: switch}, check=True)
        return int(run.stdout)
    assert 10 * faults("1") < faults("0")
