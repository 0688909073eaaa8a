"""The commands as a script for a host that has ATC."""
import os
import shlex
from dataclasses import replace
from pathlib import Path

from ..files import replacing
from .atc_command import arguments, shell_line
from .soc import DEVICE, FAMILIES

SET_ENV = "set_env.sh"
# Where CANN's installer puts it for root and for others, by its manual; up to CANN 8 and from 8.5 on.
TOOLKITS = ("/usr/local/Ascend/ascend-toolkit", "~/Ascend/ascend-toolkit", "/usr/local/Ascend/cann", "~/Ascend/cann")
HEAD = r"""#!/usr/bin/env bash
# Compiles ONNX models for the Ascend NPU. Written by tools/atc.py; run it where CANN's toolkit is installed.
#     {name} [soc_version]
# Without soc_version it is {soc}. The .om files and their logs go to the paths in the commands.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"

if ! command -v atc >/dev/null; then
    for folder in "${{ASCEND_TOOLKIT_HOME:-}}" {toolkits}; do
        if [ -n "$folder" ] && [ -f "$folder/{set_env}" ]; then
            set +eu  # CANN's script reads variables that may not be set
            source "$folder/{set_env}"
            set -eu
            break
        fi
    done
fi
if ! command -v atc >/dev/null; then
    echo "error: atc is not on PATH: source the {set_env} of CANN's toolkit first" >&2
    exit 3
fi
"""
DETECT = r"""
SOC=${{1:-}}
if [ -z "$SOC" ]; then
    SOC=$(npu-smi info | sed -nE 's/{device}.*/\1/p' | sed 's/^Ascend//; s/^/Ascend/' | sort -u || true)
    case "$SOC" in
        "" | *$'\n'* | {families})
            echo "error: npu-smi info does not tell one chip, found: ${{SOC//$'\n'/ }}" >&2
            echo "Give its name: $0 Ascend310P3" >&2
            exit 2 ;;
    esac
fi
"""
GIVEN = r"""
SOC=${{1:-{soc}}}
"""
BODY = r"""
failed=()
current=
trap 'rm -f "$current"; exit 130' INT TERM
compile() {  # the .om without its ending, then the command
    local stem=$1
    shift
    echo "$*"
    current=$stem.om
    rm -f "$current"
    mkdir -p "$(dirname "$stem")"
    local status=0
    echo "$*" >"$stem.atc.log"
    "$@" >>"$stem.atc.log" 2>&1 || status=$?
    # ATC may put the host's kind into the name.
    [ -e "$stem.om" ] || mv "$stem"_linux_*.om "$stem.om" 2>/dev/null || true
    if [ "$status" = 0 ] && [ -s "$stem.om" ]; then
        echo "  $stem.om: $(wc -c <"$stem.om") bytes"
    else
        rm -f "$stem.om"
        echo "  FAILED (status $status), see $stem.atc.log:" >&2
        tail -n 5 "$stem.atc.log" >&2
        failed+=("$stem.om")
    fi
    current=
}
"""
TAIL = r"""
if [ "${#failed[@]}" -gt 0 ]; then
    echo "error: not compiled: ${failed[*]}" >&2
    exit 2
fi
"""


def write_script(jobs, options, path):
    """Write the commands as an executable bash script; every path in it is relative to its folder.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    folder = path.parent.resolve()

    def relative(target):
        return Path(os.path.relpath(target.resolve(), folder))

    text = HEAD.format(name=path.name, soc=options.soc_version or "what npu-smi info shows", set_env=SET_ENV,
                       toolkits=" ".join(place.replace("~", '"$HOME"', 1) for place in TOOLKITS))
    text += (GIVEN.format(soc=options.soc_version) if options.soc_version
             else DETECT.format(device=DEVICE, families=" | ".join(FAMILIES)))
    text += BODY
    options = replace(options.with_paths(relative), soc_version=None)
    for job in jobs:
        here = replace(job, onnx=relative(job.onnx), stem=relative(job.stem))
        text += f"compile {shlex.quote(str(here.stem))} {shell_line(arguments(here, options))}\n"
    with replacing(path) as temporary:
        temporary.write_text(text + TAIL, encoding="utf-8")
        temporary.chmod(0o755)
