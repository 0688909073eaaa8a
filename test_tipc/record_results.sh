#!/bin/bash
# Records the results that compare_results.py compares with, from real runs.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tipc record "$@"
