# What the scripts of this folder share: they call run.py with the full path of the params file.
# shellcheck shell=bash
set -euo pipefail

TIPC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    echo "usage: bash test_tipc/$(basename "$0") $*" >&2
    exit 2
}

# params FILE: its full path, relative to the current folder, or to the checkout if it starts with test_tipc/.
params() {
    if [[ ! -e $1 && $1 =~ ^(\./)?test_tipc/ ]]; then realpath -m -- "$TIPC/../$1"; else realpath -m -- "$1"; fi
}

# tipc CHAIN ARGUMENTS…: with $PYTHON, or python3.
tipc() {
    (cd "$TIPC/.." && exec "${PYTHON:-python3}" "$TIPC/run.py" "$@")
}
