#!/bin/bash
# Records anew, from real runs, what compare_results.py compares with.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tipc record "$@"
