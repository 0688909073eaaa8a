"""Report what this host has for training, export and inference, and what each missing item is for.

Missing or broken items are findings, never errors.
"""
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from .ascend.atc import find_atc
from .ascend.script import TOOLKITS
from .ascend.soc import DEVICE
from .errors import SkelError
from .files import replacing
from .inference.runtime import first_line
from .probes import MARK
from .workers import available_cores

PROBE_TIME_LIMIT = 120  # seconds for a program, or for the import of a package
HERE, MISSING, BROKEN = "here", "missing", "broken"
MARKS = {HERE: "+", MISSING: "-", BROKEN: "!"}
SOURCE_ENVIRONMENT = "source …/Ascend/ascend-toolkit/set_env.sh"
CANN_INSTALLED = ("*_install.info", "*-linux/*_install.info")
# import name: (what it is for, how to get it)
PACKAGES = {
    "paddle": ("training, export, --runtime paddle; on NPUs with the plug-in paddle-custom-npu",
               "pip install paddlepaddle"),
    "paddle2onnx": ("conversion of exports to ONNX", "pip install paddlevideo-skel[onnx]"),
    "onnx": ("checks and simplification of ONNX models, the check of tools/atc.py",
             "pip install paddlevideo-skel[onnx]"),
    "onnxruntime": ("--runtime onnxruntime, the check of every conversion",
                    "pip install onnxruntime, or onnxruntime-gpu, or onnxruntime-cann and 'numpy<2'"),
    "openvino": ("a fast runtime for ONNX models on CPUs, not used by this package", "pip install openvino"),
    "ais_bench": ("--runtime om, with times measured on the chip",
                  "install ais_bench and aclruntime from Ascend's tools"),
    "acl": ("pyACL: --runtime om without ais_bench", f"install CANN, then {SOURCE_ENVIRONMENT}"),
    "auto_log": ("--enable_benchmark through AutoLog itself", "from PaddlePaddle's AutoLog on GitHub"),
    "ray": ("tools/ray_shards.py", "pip install paddlevideo-skel[ray]"),
    "matplotlib": ("plots", "pip install paddlevideo-skel[plot]"),
}
PROBE_PROGRAM = """import sys
sys.path = [sys.argv[1], *(p for p in sys.path if p)]
from paddlevideo_skel.probes import probe
probe(sys.argv[2])"""


@dataclass(frozen=True)
class Finding:
    """One finding: name, state, what was found, what it is for, and how to get it."""
    thing: str
    state: str
    found: str
    gives: str
    get: str = ""


def find_all():
    """All ``Finding``s of this host; packages are imported in parallel, each in a process of its own."""
    checks = [cpu, threads, memory, npus, cann, atc]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(check) for check in checks] + [pool.submit(package, name) for name in PACKAGES]
        return [task.result() for task in tqdm(waiting, desc="doctor", leave=False, disable=None)]


def print_findings(path=None):
    """Print the findings, and write them as JSON to ``path``; returns them."""
    findings = find_all()
    width = max(len(finding.thing) for finding in findings)
    for finding in findings:
        print(f"{MARKS[finding.state]} {finding.thing:<{width}}  {finding.found}")
        print(f"  {'':<{width}}  for: {finding.gives}")
        if finding.state != HERE:
            print(f"  {'':<{width}}  to get it: {finding.get}")
    print(f"{MARKS[HERE]} found, {MARKS[MISSING]} missing, {MARKS[BROKEN]} installed but unusable")
    if path:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps([asdict(f) for f in findings], indent=1, ensure_ascii=False) + "\n",
                                 encoding="utf-8")
    return findings


def cpu(path="/proc/cpuinfo"):
    """The processor, and the vector instructions that fast kernels need."""
    entries = {}
    if Path(path).is_file():
        pairs = (line.partition(":") for line in Path(path).read_text(errors="replace").splitlines())
        entries = {key.strip(): value.strip() for key, _, value in pairs}
    flags = set(entries.get("flags", entries.get("Features", "")).split())
    known = [name for name in ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
             if name in flags]
    name = entries.get("model name") or platform.processor() or "processor"
    found = ", ".join(filter(None, [name, entries.get("vendor_id"), platform.machine(), " ".join(known)]))
    return Finding("CPU", HERE, found, "everything except NPU steps; bf16 is fast with avx512_bf16 or amx_tile")


def threads():
    """The cores that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "not set")
    return Finding("threads", HERE, f"{available_cores()} of {os.cpu_count()} cores, OMP_NUM_THREADS is {said}",
                   "--cpu_threads and OMP_NUM_THREADS, which default to all cores")


def memory(path="/proc/meminfo", folder="."):
    """Available memory and disk space."""
    found = [f"{shutil.disk_usage(folder).free / 1e9:.1f} GB of disk free here"]
    if Path(path).is_file():
        available = re.search(r"MemAvailable: *(\d+) kB", Path(path).read_text())
        if available:
            found.insert(0, f"{int(available[1]) * 1024 / 1e9:.1f} GB of memory available")
    return Finding("memory", HERE, ", ".join(found),
                   "PoseC3D, whose samples take 205 MB each and need 5 GB in ONNX Runtime")


def npus():
    """The chips that ``npu-smi info`` lists."""
    gives, get = "the NPU, and its name for tools/atc.py", "install Ascend's driver and firmware, on a host with an NPU"
    if shutil.which("npu-smi") is None:
        return Finding("npu-smi", MISSING, "not on PATH", gives, get)
    try:
        done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, errors="replace",
                              timeout=PROBE_TIME_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("npu-smi", BROKEN, first_line(error), gives, get)
    chips = [f"{match[1]} ({match[2]})" for match in re.finditer(DEVICE, done.stdout, re.MULTILINE)]
    if done.returncode or not chips:
        printed = first_line(RuntimeError(done.stdout + done.stderr))
        return Finding("npu-smi", BROKEN, f"lists no chip (status {done.returncode}): {printed}", gives, get)
    return Finding("npu-smi", HERE, f"{len(chips)} chips: {', '.join(chips)}", gives, get)


def cann(folders=None):
    """CANN's version, from the files of its installer."""
    gives, get = "atc, pyACL, ONNX Runtime's CANN provider", "install CANN's toolkit (compiler) or nnrt (inference)"
    if folders is None:
        named = [os.environ.get(name) for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
        usual = [*TOOLKITS, "/usr/local/Ascend/nnrt", "~/Ascend/nnrt"]
        folders = [*filter(None, named), *(f"{folder}/{end}" for folder in usual for end in ("latest", ""))]
    for folder in dict.fromkeys(Path(folder).expanduser() for folder in folders):
        version = cann_version(folder)
        if version:
            return Finding("CANN", HERE, f"{version} in {folder}", gives, get)
    return Finding("CANN", MISSING, "not found in ASCEND_TOOLKIT_HOME or the usual places", gives, get)


def cann_version(folder):
    """The version of CANN in a folder, or None."""
    config = folder / "version.cfg"  # runtime_running_version=[7.6.0.1.220:8.0.0]
    paths = [config, *(path for pattern in CANN_INSTALLED for path in sorted(folder.glob(pattern)))]
    for path in paths:
        if path.is_file():
            text = path.read_text(errors="replace")
            found = re.search(r"^(?:runtime|toolkit)_running_version=\[[^:\]]*:([^\]]+)\]|^version=(\S+)", text,
                              re.MULTILINE)
            if found:
                return found[1] or found[2]
    return None


def atc():
    """ATC, and the script to source for it."""
    gives, get = "compiling .om models; without it tools/atc.py --dry_run writes a script", "install CANN's toolkit"
    try:
        launcher = find_atc()
    except SkelError as error:
        return Finding("atc", MISSING, error.problem, gives, get)
    return Finding("atc", HERE, f"after {launcher[-1]}" if launcher else shutil.which("atc"), gives, get)


def package(name):
    """A Python package: not installed, installed but unusable, or its version and what it offers."""
    gives, get = PACKAGES[name]
    try:
        if importlib.util.find_spec(name) is None:
            return Finding(name, MISSING, "not installed", gives, get)
        root = str(Path(__file__).resolve().parents[1])
        done = subprocess.run([sys.executable, "-c", PROBE_PROGRAM, root, name], capture_output=True, text=True,
                              errors="replace", timeout=PROBE_TIME_LIMIT)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Finding(name, BROKEN, first_line(error), gives, get)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        how = f"ended by signal {-done.returncode}" if done.returncode < 0 else "cannot be imported"
        printed = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return Finding(name, BROKEN, f"{how}: {(printed or ['it printed nothing'])[-1][:200]}", gives, get)
    found = json.loads(lines[-1].removeprefix(MARK))
    return Finding(name, HERE, ", ".join(filter(None, found.values())), gives, get)
