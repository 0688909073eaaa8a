#!/bin/bash
# Generates or links the data that a params file needs in a mode; installs nothing.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 2 ]] || usage "<params.txt> <mode>"
tipc prepare "$(params "$1")" "$2"
