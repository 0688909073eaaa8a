#!/bin/bash
# Quantise an export to INT8 after its training, and inference.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 1 || $# -eq 2 ]] || usage "<params.txt> [whole_infer]"
tipc ptq "$(params "$1")"
