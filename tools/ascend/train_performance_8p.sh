#!/usr/bin/env bash
# Train two epochs on eight devices, without validation: speed.
# shellcheck source=tools/ascend/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_ascend performance 8 "$@"
