#!/usr/bin/env bash
# Makes the lock anew from pyproject.toml, and says what changed. The lock is the folder lock/: which release of every
# Python package is installed, with the hashes of all its files. Whatever installs kproxy installs from it.
#
#   hack/lock.sh                  after a change of pyproject.toml; takes seconds. What is locked stays where it may.
#   hack/lock.sh --upgrade        the newest releases of everything; first see what they do: hack/test.sh --newest
#   hack/lock.sh --upgrade NAME…  the newest releases of these alone
#
# To add a package: name it in pyproject.toml with its reason (what kproxy runs with: dependencies; what tests and
# linters take: the extra "dev"; or "ingress" or "tour"), run hack/lock.sh, commit both; hack/setup.sh then installs it.
# After a merge conflict in lock/: take either side of it, and run hack/lock.sh.
#
#   lock/run.txt      what kproxy runs with: all that the image has
#   lock/ingress.txt  what kproxy ingress takes besides, which has an image of its own
#   lock/tour.txt     what hack/tour.sh takes besides
#   lock/test.txt     what tests and linters take besides all these
#   lock/build.txt    what installs the others, and builds those that come as source: pip and setuptools
#   lock/tool.txt     uv, which makes the lock. Nothing but this script needs it; it has an environment of its own
#
# One resolution serves all of it, for Python 3.11 to 3.13 alike. At the end uv looks whether each package has files
# that amd64 and arm64 can install with each of these Pythons. The name of no index gets into the lock.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

pythons=(3.11 3.12 3.13)
platforms=(x86_64-manylinux_2_28 aarch64-manylinux_2_28)
from_source=python-iptables  # the one package without wheels

say() { printf '%s\n' "$*"; }
fail() { printf 'hack/lock.sh: %s\n' "$*" >&2; exit 1; }

upgrade=()
case "${1:-}" in
"") ;;
--upgrade)
    shift
    if [ $# = 0 ]; then upgrade=(--upgrade); else upgrade=("${@/#/--upgrade-package=}"); fi
    ;;
*) fail "unknown option $1; see hack/lock.sh --help" ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# uv, in the release that is locked itself.
tool=.venv-lock
if [ "$(cat $tool/.made-from 2>/dev/null)" != "$(cksum <lock/tool.txt)" ]; then
    python3 -m venv --clear $tool
    $tool/bin/python -m pip install --quiet --require-hashes --no-deps -r lock/tool.txt
    cksum <lock/tool.txt >$tool/.made-from
fi

# compile FILE WHAT…: resolve WHAT into FILE. What FILE holds already stays, unless it is to be upgraded.
compile() {
    local file=$1
    shift
    # The oldest Python, and one release of each package for all of them.
    $tool/bin/uv pip compile --quiet --universal --python-version "${pythons[0]}" --fork-strategy fewest \
        --generate-hashes --annotation-style line --custom-compile-command hack/lock.sh --output-file "$file" "$@"
    sed -i "s|-c $scratch/|-c |" "$file"  # a folder of this run's would be another change in each line
}

# versions: each locked package with its release, a line each.
versions() { sed -nE 's/^([a-z0-9][a-z0-9.-]*)==([^ ;]+).*/\1 \2/p' lock/*.txt | sort -u; }
names() { sed -nE 's/^([a-z0-9][a-z0-9.-]*)==.*/\1/p' "$@"; }

# lock LIST WHAT…: compile WHAT into lock/LIST.txt, in a copy so that a failure leaves the lock as it is.
lock() {
    local list=$1
    shift
    cp "lock/$list.txt" "$scratch/$list.txt"
    compile "$scratch/$list.txt" "$@"
}

versions >"$scratch/before"

extras=(ingress tour)  # a list each, without what is on the lists before it
lists=(run "${extras[@]}" test build tool)

for list in "${lists[@]}"; do touch "lock/$list.txt"; done
for list in run "${extras[@]}" test; do cat "lock/$list.txt"; done >"$scratch/all.txt"
compile "$scratch/all.txt" "${upgrade[@]}" --all-extras pyproject.toml
lock run --constraints "$scratch/all.txt" pyproject.toml
mapfile -t already < <(names "$scratch/run.txt")
for extra in "${extras[@]}"; do
    lock "$extra" --constraints "$scratch/all.txt" "${already[@]/#/--no-emit-package=}" --extra "$extra" pyproject.toml
    mapfile -O ${#already[@]} -t already < <(names "$scratch/$extra.txt")
done
lock test --constraints "$scratch/all.txt" "${already[@]/#/--no-emit-package=}" --all-extras pyproject.toml
lock build "${upgrade[@]}" --group build
lock tool "${upgrade[@]}" --group lock

requirements=("${lists[@]/#/--requirement=$scratch/}")
for platform in "${platforms[@]}"; do
    for python in "${pythons[@]}"; do
        log=$scratch/$platform-$python.log
        $tool/bin/uv pip install --dry-run --target "$scratch/nowhere" --require-hashes --no-deps \
            --only-binary :all: --no-binary $from_source --python-platform "$platform" --python-version "$python" \
            "${requirements[@]/%/.txt}" >"$log" 2>&1 ||
            fail "what would be locked does not install on $platform with Python $python: $(cat "$log")"
    done
done

for list in "${lists[@]}"; do
    cp "$scratch/$list.txt" "lock/$list.txt"
done
versions >"$scratch/after"

join -a 1 -a 2 -e - -o 0,1.2,2.2 "$scratch/before" "$scratch/after" | awk '
    $2 == $3 { next }
    $2 == "-" { print "added   " $1 " " $3; next }
    $3 == "-" { print "removed " $1 " " $2; next }
    { print "changed " $1 " " $2 " → " $3 }' >"$scratch/changes"
if [ -s "$scratch/changes" ]; then cat "$scratch/changes"; else say "Nothing changed."; fi
