#!/usr/bin/env bash
# Train to the end on one device, with validation: accuracy and speed.
# shellcheck source=tools/ascend/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_ascend full 1 "$@"
