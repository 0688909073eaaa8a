#!/usr/bin/env bash
# Train to the end on eight devices, with validation: accuracy and speed.
# shellcheck source=tools/ascend/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_ascend full 8 "$@"
