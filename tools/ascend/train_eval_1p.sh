#!/usr/bin/env bash
# Test a checkpoint on the validation set, on one device.
# shellcheck source=tools/ascend/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_ascend eval 1 "$@"
