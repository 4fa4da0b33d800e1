#!/usr/bin/env bash
# Sets itself up (hack/setup.sh), then runs everything: linters, types, the rule of imports, all tests.
#
#   hack/test.sh            needs root, for the tests in network namespaces
#   hack/test.sh --fast     without the tests that need root or build the image
#   hack/test.sh -k nat     further arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."

options=()
fast=no
for argument in "$@"; do
    if [ "$argument" = --fast ]; then
        fast=yes
        options+=(-m "not kernel and not image")
    else
        options+=("$argument")
    fi
done
if [ "$fast" = no ] && [ "$(id -u)" != 0 ]; then
    echo "hack/test.sh: the tests in network namespaces need root; hack/test.sh --fast leaves them out" >&2
    exit 1
fi

if [ "$(id -u)" = 0 ]; then  # under sudo, leave no cache behind that the checkout's owner cannot write
    trap 'chown -R --reference=. .*_cache .hypothesis 2>/dev/null || true' EXIT
fi

hack/setup.sh test
export PATH="$PWD/.venv/bin:$PATH"

step() {
    printf '\n== %s\n' "$*"
    "$@"
}

step ruff check .
step ruff format --check .
step mypy
step lint-imports
step python -m pytest "${options[@]}"  # last: its closing line is what CI reads
