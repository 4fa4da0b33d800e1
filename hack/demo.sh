#!/usr/bin/env bash
# Shows kproxy at work with real packets on this machine, in network namespaces of its own. Needs root.
# Exit code 0 only if all that it claims was seen.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "hack/demo.sh builds network namespaces and needs root: sudo hack/demo.sh" >&2
    exit 1
fi
hack/setup.sh run
exec .venv/bin/python -m hack.demo "$@"
