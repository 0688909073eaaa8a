"""The doctor tells what is here, missing or broken, and never falls ill itself."""
import importlib.util
import json
import os
import stat
import subprocess
import sys

import pytest
from paths import ROOT

from paddlevideo_skel import doctor
from paddlevideo_skel.ascend import atc
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.doctor import BROKEN, HERE, MISSING, PACKAGES

# A table in the form that npu-smi prints, for two chips on one card.
TABLE = """+--------------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc3                                 Version: 24.1.rc3                                     |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 1       310P3                 | OK              | NA           78                0     / 0             |
| 0       0                     | 0000:01:00.0    | 0            1240 / 44280                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 1       310P3                 | Warning         | NA           78                0     / 0             |
| 1       1                     | 0000:01:00.0    | 0            1680 / 43693                            |
+===============================+=================+======================================================+
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """``path(name, script)`` puts a stand-in for a program on a PATH that has nothing else but a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(doctor, "TOOLKITS", ())
    monkeypatch.setattr(atc, "TOOLKITS", ())
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        monkeypatch.delenv(name, raising=False)

    def put(name, script):
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    return put


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``installed(name, text)`` makes a package of one module; in child processes too."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def put(name, text):
        (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    return put


def package(name, monkeypatch):
    """What is found of a package that the doctor would not ask for otherwise."""
    monkeypatch.setitem(PACKAGES, name, ("it gives", "to get it"))
    return doctor.package(name)


def test_packages_that_are_here_or_not(installed, monkeypatch):
    installed("healthy_one", "import atexit\n__version__ = '1.2.3'\nprint('it talks')\natexit.register(print, 'and')")
    found = package("healthy_one", monkeypatch)
    assert (found.state, found.found, found.gives, found.get) == (HERE, "1.2.3", "it gives", "to get it")
    found = package("not_installed_anywhere", monkeypatch)
    assert (found.state, found.found) == (MISSING, "not installed")


@pytest.mark.parametrize(("text", "told"), [
    ("raise ImportError('libascendcl.so: cannot open shared object file')",
     "cannot be imported: ImportError: libascendcl.so: cannot open shared object file"),
    ("import os; os.abort()", "ended by signal 6"),
    ("import sys; sys.exit(3)", "cannot be imported: it printed nothing"),
    ("import sys; sys.exit()", "cannot be imported: it printed nothing"),
    ("import time; time.sleep(600)", "timed out after 1 seconds")])
def test_a_package_that_breaks_takes_nothing_down(installed, monkeypatch, text, told):
    monkeypatch.setattr(doctor, "PROBE_TIME_LIMIT", 1 if "sleep" in text else 120)
    installed("ailing", text)
    found = package("ailing", monkeypatch)
    assert found.state == BROKEN and told in found.found
    assert found.get == "to get it"


def test_the_details_of_packages(installed):
    installed("ais_bench", "")  # its front is installed, what it needs is not
    assert doctor.package("ais_bench").state == BROKEN
    installed("openvino", "class Core:\n    available_devices = ['CPU', 'GPU']")
    assert doctor.package("openvino").found.endswith("CPU, GPU")
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        found = doctor.package("onnxruntime").found
        assert found.startswith(onnxruntime.__version__) and "CPU" in found


def test_npu_smi(path, monkeypatch):
    assert doctor.npus().state == MISSING
    path("npu-smi", f"cat <<'END'\n{TABLE}END".replace("cat", "/bin/cat"))
    found = doctor.npus()
    assert (found.state, found.found) == (HERE, "2 chips: 310P3 (OK), 310P3 (Warning)")
    path("npu-smi", "echo 'dcmi module initialize failed. ret is -8005' >&2; exit 1")
    found = doctor.npus()
    assert found.state == BROKEN and "status 1" in found.found and "-8005" in found.found
    path("npu-smi", "exec /bin/sleep 60")
    monkeypatch.setattr(doctor, "PROBE_TIME_LIMIT", 1)
    assert doctor.npus().state == BROKEN
    path("npu-smi", "").write_bytes(b"\x00")
    assert doctor.npus().state == BROKEN


@pytest.mark.parametrize(("file", "text", "version"), [
    ("version.cfg", "# version: 1.0\nruntime_running_version=[7.6.0.1.220:8.0.0]\n"
                    "compiler_running_version=[7.6.0.1.220:8.0.0]\n", "8.0.0"),
    ("version.cfg", "toolkit_running_version=[1.84.15.1.310:6.0.1]\n", "6.0.1"),
    ("aarch64-linux/ascend_toolkit_install.info", "package_name=Ascend-cann-toolkit\nversion=8.0.RC3\n", "8.0.RC3"),
    ("ascend_nnrt_install.info", "version=7.0.0\r\narch=x86_64\n", "7.0.0"),
    ("version.cfg", "nothing that is known\n", None)])
def test_canns_version(tmp_path, file, text, version):
    place = tmp_path / "toolkit" / file
    place.parent.mkdir(parents=True)
    place.write_text(text)
    found = doctor.cann([tmp_path / "gone", tmp_path / "toolkit"])
    assert found.state == (HERE if version else MISSING)
    assert version is None or found.found == f"{version} in {tmp_path / 'toolkit'}"


def test_cann_where_its_environment_script_says(tmp_path, monkeypatch):
    (tmp_path / "version.cfg").write_text("runtime_running_version=[7:8.1]\n")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    assert doctor.cann().found == f"8.1 in {tmp_path}"


def test_atc(path):
    assert doctor.atc().state == MISSING
    file = path("atc", "exit 0")
    assert (doctor.atc().state, doctor.atc().found) == (HERE, str(file))


@pytest.mark.parametrize(("text", "words"), [
    ("vendor_id\t: AuthenticAMD\nmodel name\t: EPYC\nflags\t\t: fpu avx2 avx512f\n", ["EPYC", "AMD", "avx2 avx512f"]),
    ("processor : 0\nFeatures : fp asimd sve\n", ["asimd sve"]), ("", [])])
def test_the_processor(tmp_path, text, words):
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    found = doctor.cpu(file).found
    assert all(word in found for word in words) and doctor.cpu(tmp_path / "gone").found


def test_threads_and_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = doctor.threads().found
    assert found.endswith("OMP_NUM_THREADS is 7") and found.startswith(f"{len(os.sched_getaffinity(0))} of ")
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  9000000 kB\nMemAvailable:    2000000 kB\n")
    assert doctor.memory(file).found.startswith("2.0 GB of memory available, ")
    assert "memory" not in doctor.memory(tmp_path / "gone").found


def test_the_command_never_fails_because_something_is_missing(path, tmp_path, monkeypatch, capsys):
    """Nothing on PATH, no package but one, which is broken."""
    find = importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: find("json") if name == "acl" else None)
    out = tmp_path / "found.json"
    assert run_command("doctor", ["--json", str(out)]) == 0
    told = {entry["thing"]: entry for entry in json.loads(out.read_text())}
    assert {"CPU", "threads", "memory", "npu-smi", "CANN", "atc", *PACKAGES} == set(told)
    assert told["acl"]["state"] == BROKEN and told["paddle"]["state"] == told["atc"]["state"] == MISSING
    assert all(entry["gives"] and (entry["state"] == HERE or entry["get"]) for entry in told.values())
    printed = capsys.readouterr().out
    assert "- paddle" in printed and "! acl" in printed and "+ CPU" in printed
    assert "to get it: pip install paddlepaddle" in printed


def test_the_script_needs_no_paddle(tmp_path):
    """Packages that fail when they are imported stand in the way of the real ones."""
    (tmp_path / "paddle.py").write_text("raise ImportError('this paddle is broken')")
    done = subprocess.run([sys.executable, ROOT / "tools" / "doctor.py"], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "! paddle" in done.stdout and "cannot be imported: ImportError: this paddle is broken" in done.stdout
