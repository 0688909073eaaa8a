#!/bin/bash
# Train, evaluate, export, and a sweep of inference.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 2 || $# -eq 3 ]] || usage "<params.txt> <mode> [GPU ids for whole_infer]"
tipc train_infer "$(params "$1")" "${@:2}"
