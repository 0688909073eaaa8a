#!/bin/bash
# Convert an export to ONNX, and inference in ONNX Runtime.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 1 || $# -eq 2 ]] || usage "<params.txt> [paddle2onnx_infer]"
tipc paddle2onnx "$(params "$1")"
