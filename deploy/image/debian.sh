#!/bin/sh
# Takes out of an image what none of its programs needs: the last step of a build that uses apt. For people who look at
# what is wrong, these stay: bash, coreutils, findutils, grep, sed, mawk, gzip; and dpkg, with what it calls.
#
# dpkg takes it out, so /var/lib/dpkg/status, which scanners read, says truly what is there. That Debian calls some of it
# essential is about systems that install packages; an image is only ever replaced as a whole.
set -eu

# What installs packages, and checks their signatures.
programs="apt sqv debian-archive-keyring"
# Accounts and logging in: there are none.
programs="$programs adduser login login.defs passwd libpam-runtime libpam-modules libpam-modules-bin"
# Disks, mounts and starting up are the business of the container's runtime and of the node.
programs="$programs util-linux bsdutils mount init-system-helpers sysvinit-utils"
# Of use only on a terminal of one's own.
programs="$programs ncurses-bin"
# What scripts within packages are written in. The others have such scripts, and go first.
programs="$programs perl-base debconf"

# Libraries that served these, from the top down. One that another package needs stays; and so does libstdc++6, which a
# module of Python's needs (frozenlist).
libraries="libapt-pkg7.0 libseccomp2 liblz4-1 libxxhash0 libhogweed6t64 libnettle8t64"
libraries="$libraries libpam0g libaudit1 libaudit-common libcap-ng0 libsemanage2 libsemanage-common libsepol2 libbsd0"
libraries="$libraries libmount1 libsmartcols1 libblkid1 libuuid1 liblastlog2-2 libudev1"

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

for package in $programs; do
    if is_installed "$package"; then
        dpkg --purge --force-depends --force-remove-essential --force-remove-protected "$package"
    fi
done
for package in $libraries; do
    if is_installed "$package" && dpkg --no-act --purge "$package" >/dev/null 2>&1; then
        dpkg --purge "$package"
    fi
done

# Of all packages: documentation but for licences, translations, and what the build leaves behind.
find /usr/share/doc -mindepth 1 ! -name copyright ! -type d -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
rm -rf /usr/share/locale/* /usr/share/man/* /usr/share/info/* /usr/share/lintian /usr/share/bug \
    /usr/share/bash-completion /usr/share/fish /usr/share/pixmaps /usr/share/polkit-1 \
    /var/lib/apt /var/cache/* /var/log/* /var/lib/dpkg/*-old
# Conversions between character sets for programs in C. Python has its own.
rm -rf /usr/lib/*/gconv

# Python's bytecode, see the Dockerfile.
python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3*
