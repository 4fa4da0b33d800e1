#!/usr/bin/env bash
# Kubernetes' network on this machine, from two namespaces to an Ingress: every command shown, told why, and run for
# real, in namespaces of its own. Needs root. Exit code 0 only if all that it tells was seen.
#
#   hack/tour.sh            all chapters; under a minute
#   hack/tour.sh 2 pod      those, by number or name
#   hack/tour.sh --pause    wait for Enter between steps
#   hack/tour.sh --stay 1   leave the chapter standing, with a shell in it
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "hack/tour.sh builds network namespaces and needs root: sudo hack/tour.sh" >&2
    exit 1
fi
hack/setup.sh tour
exec .venv/bin/python -m hack.tour "$@"
