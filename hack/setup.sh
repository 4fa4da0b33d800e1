#!/usr/bin/env bash
# Puts in place what kproxy needs on Debian 12+ or Ubuntu 24.04+, and nothing twice: Debian packages that are missing,
# and a virtual environment in .venv of this checkout, with the releases that lock/ names (see hack/lock.sh) and no
# others. A second run takes no time. To have another Python than Debian's: python3.13 -m venv .venv, then this.
#
#   hack/setup.sh run     what running kproxy and hack/demo.sh takes
#   hack/setup.sh tour    that, and what hack/tour.sh shows
#   hack/setup.sh test    all of it, and what the linters and all the tests take
#   hack/setup.sh newest  the same with today's newest releases, in .venv-newest; every run renews it
#
# Needs root only where a Debian package is missing.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

run_packages=(
    iptables      # libiptc and libxtables, through which kproxy writes rules; the lab loads and lists rules with it
    libnftables1  # through which kproxy writes rules in mode nftables
    iproute2      # ip, by which the lab builds its network
    kmod          # modprobe: the lab needs br_netfilter, which most kernels have as a module
    python3 python3-venv
    gcc libc6-dev python3-dev  # python-iptables comes as source
)
tour_packages=(
    "${run_packages[@]}"
    util-linux hostname   # unshare, in which each chapter plays; nsenter, by which a container joins its pod
    iputils-ping          # ping
    containernetworking-plugins  # the real CNI plugins: bridge, host-local, portmap, loopback
    bind9-dnsutils        # dig
    conntrack             # lists what the kernel remembers of connections
    tcpdump               # shows packets on their way
    curl                  # asks over HTTP
    openssl               # makes the shop's certificate
    haproxy               # what kproxy ingress drives
    socat                 # asks HAProxy what it was told
)
test_packages=(
    "${tour_packages[@]}"
    prometheus    # scrapes kproxy in the lab; promtool, to check metrics and to try the alert rules
    nftables      # nft, by which tests list what mode nftables wrote
    buildah       # builds the container image, in a chroot: that takes no container engine
    mmdebstrap debian-archive-keyring  # make the image's base, which others pull from a registry
    crun          # runs the image in the lab, as a node would
)

say() { printf '%s\n' "$*" >&2; }
fail() { say "hack/setup.sh: $*"; exit 1; }

# Run a command quietly; show what it said only if it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    local missing=() package
    command -v dpkg-query >/dev/null || fail "this is neither Debian nor Ubuntu; install these by hand: $*"
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || fail "Debian packages are missing; as root: apt-get install ${missing[*]}"
    say "Installing Debian packages: ${missing[*]}"
    start_no_services
    quietly apt-get update || fail "apt-get update failed, see above: is there a network, and are the sources right?"
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" ||
        fail "apt-get could not install ${missing[*]}, see above"
}

# Programs are wanted, not services: Debian would start prometheus on this machine. A policy that is there already stays.
start_no_services() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0
    trap "rm -f '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
}

# The first Python that is new enough: Debian's own, which the image has, too, and python3-dev is for, or one on PATH.
# What is there without Debian is often built without optimization, and takes a third longer for everything.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "kproxy needs Python 3.11 or newer, and python3 here is $(python3 --version 2>&1);" \
        "Debian 12 and Ubuntu 24.04 have a newer one"
}

# make_environment FOLDER: a virtual environment with a Python that is new enough, unless FOLDER is one.
make_environment() {
    local folder=$1 python
    if [ -e "$folder" ] && [ ! -w "$folder" ]; then
        fail "$folder belongs to $(stat -c %U "$folder"); run this once as that user, or remove $folder"
    fi
    if ! "$folder/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python)
        say "Making a virtual environment in $folder with $("$python" --version)"
        quietly "$python" -m venv --clear "$folder" || fail "$python -m venv failed, see above"
    fi
}

# The locked releases into .venv, each file held to its hash, and kproxy itself, editable. What is not locked goes, lest
# tests pass by what nobody else has. The stamp says for which state of the project .venv was made.
install_locked() {
    local what=$1 larger stamp state lists=(lock/run.txt lock/ingress.txt) locked surplus
    state="$(cat pyproject.toml lock/*.txt | cksum) $PWD"
    # What the tests take includes what the tour takes, and that what running takes.
    for larger in $(larger_than "$what"); do
        stamp=.venv/.set-up-for-$larger
        if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$state" ]; then
            return
        fi
    done
    make_environment .venv
    for larger in $(larger_than "$what"); do  # once there, it stays
        if [ -e ".venv/.set-up-for-$larger" ]; then what=$larger; fi
    done
    if [ "$what" != run ]; then lists+=(lock/tour.txt); fi
    if [ "$what" = test ]; then lists+=(lock/test.txt); fi
    rm -f .venv/.set-up-for-*
    say "Installing Python packages into .venv, as locked"
    in_venv install --require-hashes --no-deps -r lock/build.txt
    in_venv install --require-hashes --no-deps --no-build-isolation "${lists[@]/#/--requirement=}"
    locked=$(cat lock/build.txt "${lists[@]}" | names_of)
    surplus=$(.venv/bin/python -m pip list --format=freeze --exclude kproxy | names_of | comm -23 - <(echo "$locked"))
    if [ -n "$surplus" ]; then
        # shellcheck disable=SC2086 # names have no blanks
        in_venv uninstall --yes $surplus
    fi
    in_venv install --no-deps --no-build-isolation --editable .
    # pip compiles what it installs, but for what is editable, and whoever sets PYTHONDONTWRITEBYTECODE never has it.
    # Where somebody else's is in the way, a start takes longer, and that is all.
    .venv/bin/python -m compileall -q kproxy >/dev/null || true
    quietly .venv/bin/python -m pip check || fail "lock/ is not what pyproject.toml asks for: run hack/lock.sh"
    printf '%s\n' "$state" >".venv/.set-up-for-$what"
    [ "$(id -u)" != 0 ] || chown -R --reference=. .venv  # sudo hack/demo.sh must not lock the checkout's owner out
}

# What setting up for $1 is part of, from itself to the largest.
larger_than() {
    case $1 in
    run) echo run tour test ;;
    tour) echo tour test ;;
    test) echo test ;;
    esac
}

in_venv() { quietly .venv/bin/python -m pip "$@" || fail "pip could not install kproxy, see above"; }

# The names in lines of the form NAME==RELEASE, as indexes spell them.
names_of() { sed -nE 's/^([A-Za-z0-9._-]+)==.*/\L\1/p' | sed 's/[-_.]\+/-/g' | sort -u; }

# The browser in which tests look at kproxy's page: Debian's, or playwright's own where there is none without windows.
# Ubuntu has chromium only as a snap. Playwright itself comes from the lock.
install_browser() {
    local environment=$1 package=chromium-headless-shell
    if is_installed $package; then return; fi
    [ "$(id -u)" != 0 ] || quietly apt-get update || fail "apt-get update failed, see above"
    if apt-cache show $package >/dev/null 2>&1; then
        install_packages $package
    elif [ ! -x "$(playwrights_browser "$environment")" ]; then
        say "Installing playwright's chromium, as there is no package $package"
        quietly "$environment/bin/playwright" install --with-deps --no-shell chromium ||
            fail "playwright could not install its browser, see above"
    fi
}

playwrights_browser() {
    "$1/bin/python" -c "from playwright.sync_api import sync_playwright as run
with run() as playwright: print(playwright.chromium.executable_path)"
}

install_newest() {
    make_environment .venv-newest
    say "Installing the newest Python packages into .venv-newest"
    quietly .venv-newest/bin/python -m pip install --upgrade --upgrade-strategy eager -e '.[dev,ingress,tour]' ||
        fail "pip could not install kproxy, see above"
    [ "$(id -u)" != 0 ] || chown -R --reference=. .venv-newest
}

case "${1:-}" in
run)
    install_packages "${run_packages[@]}"
    install_locked run
    ;;
tour)
    install_packages "${tour_packages[@]}"
    install_locked tour
    ;;
test)
    install_packages "${test_packages[@]}"
    install_locked test
    install_browser .venv
    ;;
newest)
    install_packages "${test_packages[@]}"
    install_newest
    install_browser .venv-newest
    ;;
*)
    fail "say what for: run, tour, test or newest"
    ;;
esac
