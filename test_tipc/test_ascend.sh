#!/bin/bash
# Export, ONNX, atc, .om, inference over a folder of .bin files, accuracy.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 1 || $# -eq 2 ]] || usage "<params.txt> [ascend_infer]"
tipc ascend "$(params "$1")"
