#!/bin/bash
# The same on an NPU: the GPU rows of the params file become NPU rows, in a copy of it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 2 ]] || usage "<params.txt> <mode>"
tipc train_infer_npu "$(params "$1")" "$2"
