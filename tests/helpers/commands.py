"""Commands of this checkout, in their own processes."""
import os
import subprocess
import sys

from paths import ROOT


def call(*command, cwd=ROOT):
    """Run a command of this checkout in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=900)
