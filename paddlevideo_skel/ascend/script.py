"""A bash script of ``atc`` commands, for a host that has ATC."""
import os
import shlex
from dataclasses import replace
from pathlib import Path

from ..files import replacing
from .atc_command import atc_arguments, to_shell_line
from .soc import DEVICE, FAMILIES

SET_ENV = "set_env.sh"
# CANN's default folders for root and for other users, by its manual; up to CANN 8, and from 8.5 on.
TOOLKITS = ("/usr/local/Ascend/ascend-toolkit", "~/Ascend/ascend-toolkit", "/usr/local/Ascend/cann", "~/Ascend/cann")
SCRIPT_HEAD = r"""#!/usr/bin/env bash
# Compiles ONNX models for the Ascend NPU. Written by tools/atc.py, to be run on a host with CANN's toolkit.
#     {name} [soc_version]
# soc_version defaults to {soc}. The .om files and their logs go to the paths in the commands.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"

if ! command -v atc >/dev/null; then
    for folder in "${{ASCEND_TOOLKIT_HOME:-}}" {toolkits}; do
        if [ -n "$folder" ] && [ -f "$folder/{set_env}" ]; then
            set +eu  # CANN's script may read unset variables
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
SCRIPT_DETECT = r"""
SOC=${{1:-}}
if [ -z "$SOC" ]; then
    SOC=$(npu-smi info | sed -nE 's/{device}.*/\1/p' | sed 's/^Ascend//; s/^/Ascend/' | sort -u || true)
    case "$SOC" in
        "" | *$'\n'* | {families})
            echo "error: npu-smi info does not show exactly one chip, found: ${{SOC//$'\n'/ }}" >&2
            echo "Pass its name: $0 Ascend310P3" >&2
            exit 2 ;;
    esac
fi
"""
SCRIPT_GIVEN = r"""
SOC=${{1:-{soc}}}
"""
SCRIPT_BODY = r"""
failed=()
current=
trap 'rm -f "$current"; exit 130' INT TERM
compile() {  # arguments: the .om without its extension, then the command
    local stem=$1
    shift
    echo "$*"
    current=$stem.om
    rm -f "$current"
    mkdir -p "$(dirname "$stem")"
    local status=0
    echo "$*" >"$stem.atc.log"
    "$@" >>"$stem.atc.log" 2>&1 || status=$?
    # ATC may add the host's CPU to the name.
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
SCRIPT_TAIL = r"""
if [ "${#failed[@]}" -gt 0 ]; then
    echo "error: not compiled: ${failed[*]}" >&2
    exit 2
fi
"""


def write_script(jobs, options, path):
    """Write the commands as an executable bash script; its paths are relative to its folder.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    folder = path.parent.resolve()

    def make_relative(target):
        return Path(os.path.relpath(target.resolve(), folder))

    text = SCRIPT_HEAD.format(name=path.name, soc=options.soc_version or "what npu-smi info shows", set_env=SET_ENV,
                       toolkits=" ".join(place.replace("~", '"$HOME"', 1) for place in TOOLKITS))
    text += (SCRIPT_GIVEN.format(soc=options.soc_version) if options.soc_version
             else SCRIPT_DETECT.format(device=DEVICE, families=" | ".join(FAMILIES)))
    text += SCRIPT_BODY
    options = replace(options.with_paths(make_relative), soc_version=None)
    for job in jobs:
        here = replace(job, onnx=make_relative(job.onnx), stem=make_relative(job.stem))
        text += f"compile {shlex.quote(str(here.stem))} {to_shell_line(atc_arguments(here, options))}\n"
    with replacing(path) as temporary:
        temporary.write_text(text + SCRIPT_TAIL, encoding="utf-8")
        temporary.chmod(0o755)
