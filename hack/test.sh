#!/usr/bin/env bash
# Sets itself up (hack/setup.sh), then runs everything: linters, types, the rule of imports, all tests.
#
#   hack/test.sh            needs root, for the tests in network namespaces
#   hack/test.sh --fast     without the tests that need root or build the image, and with fewer examples in property
#                           tests: before every commit
#   hack/test.sh --newest   with today's newest Python packages rather than those of lock/, in an environment of their
#                           own; to be tried before hack/lock.sh --upgrade
#   hack/test.sh -k nat     further arguments go to pytest
#
# At the end it says how long each part took, and which tests took longest.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

options=()
fast=no
packages=test
environment=.venv
for argument in "$@"; do
    if [ "$argument" = --fast ]; then
        fast=yes
        options+=(-m "not kernel and not image")
    elif [ "$argument" = --newest ]; then
        packages=newest
        environment=.venv-newest
    else
        options+=("$argument")
    fi
done
if [ "$fast" = no ] && [ "$(id -u)" != 0 ]; then
    echo "hack/test.sh: the tests in network namespaces need root; hack/test.sh --fast leaves them out" >&2
    exit 1
fi

unset PYTHONDONTWRITEBYTECODE  # compiling the tests anew in each process takes 6 s each, and each daemon in them its share
if [ "$fast" = yes ]; then
    export KPROXY_EXAMPLES=${KPROXY_EXAMPLES:-0.2}  # see tests/kit/examples.py
fi

notes=$(mktemp -d)
finish() {
    local beside
    beside=$(jobs -p)
    [ -z "$beside" ] || kill $beside 2>/dev/null || true
    rm -rf "$notes"
    if [ "$(id -u)" = 0 ]; then  # under sudo, leave no cache behind that the checkout's owner cannot write
        chown -R --reference=. .*_cache .hypothesis 2>/dev/null || true
        find kproxy hack tests -name __pycache__ -exec chown -R --reference=. {} +
    fi
}
trap finish EXIT

hack/setup.sh "$packages"
export PATH="$PWD/$environment/bin:$PATH"

# What each part took is told at the end, also where one failed.
tell_times() {
    printf '\n== what took how long\n'
    cat "$notes/times"
    printf '%4d s  in all\n' "$SECONDS"
}
timed() {  # run it, note how long it took, and say whether it went well
    local began=$SECONDS outcome=''
    "$@" || outcome='  failed'
    printf '%4d s  %s%s\n' $((SECONDS - began)) "${*:1:3}" "$outcome" >>"$notes/times"
    [ -z "$outcome" ]
}
fail() {
    tell_times >&2
    printf '\n== failed: %s\n' "$*" >&2
    exit 1
}

# The linters run beside the tests, which leave a processor idle now and then; what one says comes in one piece.
lint() {
    local words line failed=''
    for line in 'ruff check .' 'ruff format --check .' mypy lint-imports; do
        read -ra words <<<"$line"
        timed "${words[@]}" >"$notes/said" 2>&1 || failed+=", $line"
        printf '\n== %s\n%s\n' "$line" "$(cat "$notes/said")"
    done
    printf '%s' "${failed#, }" >"$notes/failed"
}
lint &
linting=$!

# Most tests wait most of the time, for packets and processes; hence more of them at once than there are processors. See
# tests/kit/side_by_side. More yet of those without a kernel, which share nothing; some wait out whole time-outs.
at_once=$(($(nproc) + 3))
[ "$fast" = no ] || at_once=$(($(nproc) * 4))
tests=passed
printf '\n== python -m pytest, and beside it the linters\n'
timed python -m pytest --at-once "$at_once" --durations 10 "${options[@]}" || tests=failed
wait "$linting"
unsound=$(cat "$notes/failed")
[ "$tests" = failed ] && unsound=${unsound:+$unsound, }pytest
[ -z "$unsound" ] || fail "$unsound"
tell_times
