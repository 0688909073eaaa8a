"""What this host has: asked of paddle, PATH and the packages, not taken from the output of commands."""
import json
import os
import platform
import shutil
import subprocess
import sys

from paddlevideo_skel.errors import UnavailableError

from . import ROOT

# Run by the interpreter of the commands, which may be another than the one that runs this.
_QUESTION = """
import importlib.util, json, paddle
from paddle import inference
from paddlevideo_skel.devices import count_devices
print(json.dumps({
    "gpu": count_devices(paddle, "gpu"), "npu": count_devices(paddle, "npu"), "paddle": paddle.__version__,
    "paddle_commit": paddle.version.commit, "tensorrt": inference.get_trt_compile_version() != (0, 0, 0),
    "packages": [name for name in ("paddle2onnx", "onnxruntime", "ais_bench", "acl") if importlib.util.find_spec(name)],
}))
"""


def interpreter(name):
    """The interpreter for a params file's ``python`` line: ``$PYTHON``, the named one, or the running one."""
    given = os.environ.get("PYTHON")
    if given:
        return given
    # Version managers put names on PATH that only report that they are not installed.
    if shutil.which(name) and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0:
        return name
    print(f"notice: {name} is not installed; using {sys.executable} instead", flush=True)
    return sys.executable


class Host:
    """Devices and packages that an interpreter finds.

    Attributes:
        facts: gpu and npu (how many), tensorrt, packages, paddle (version), paddle_commit.

    Raises:
        UnavailableError: the interpreter cannot be started or does not have paddle.
    """

    def __init__(self, python):
        try:
            answer = subprocess.run([python, "-c", _QUESTION], cwd=ROOT, capture_output=True, text=True)
        except OSError as error:
            raise UnavailableError(python, f"cannot be started ({error.strerror})",
                                   "Set PYTHON to an interpreter that has paddle") from error
        if answer.returncode:
            last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
            raise UnavailableError(python, f"cannot import the required packages ({last})",
                                   "Activate the environment that has paddle, or set PYTHON to its interpreter")
        self.facts = json.loads(answer.stdout.strip().splitlines()[-1])

    def lacks(self, kind, count=1):
        """Why ``count`` devices ``gpu`` or ``npu`` cannot be used, or None."""
        found = self.facts[kind]
        if found >= count:
            return None
        name = kind.upper()
        return f"found {found} {name}s, expected {count}" if found else f"this paddle finds no {name}"

    def lacks_tensorrt(self):
        """Why TensorRT cannot be used, or None."""
        return self.lacks("gpu") or (None if self.facts["tensorrt"] else "this paddle was built without TensorRT")

    def lacks_half(self):
        """Why training cannot be in mixed precision, or None."""
        if self.facts["gpu"] or self.facts["npu"]:
            return None
        return "Paddle has no mixed precision on a CPU"

    def lacks_package(self, *names):
        """Which package is missing, or None."""
        missing = [name for name in names if name not in self.facts["packages"]]
        return f"{missing[0]} is not installed" if missing else None


def lacks_program(name):
    """Why a program cannot be called, or None."""
    return None if shutil.which(name) else f"{name} is not on PATH"


def is_x86():
    return platform.machine() in ("x86_64", "AMD64")
