"""Commands of this checkout, in their own processes."""
import os
import subprocess
import sys

from paths import ROOT


def call(*command, cwd=ROOT, stdin=None):
    """Run a command of this checkout in a process of its own; ``stdin`` is text for it to read."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True,
                          input=stdin, text=True, timeout=900)
