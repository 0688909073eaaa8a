#!/bin/bash
# Speed of training: a line of JSON for every case.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 2 || $# -eq 3 ]] || usage "<params.txt> benchmark_train [dynamic_bs8_fp32_DP_N1C1]"
tipc benchmark "$(params "$1")" "${@:2}"
