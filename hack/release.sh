#!/usr/bin/env bash
# Makes a release of the checkout: puts the version wherever it stands, closes CHANGELOG.md's section of unreleased
# changes with today's date, commits that and tags it. Nothing is pushed and nothing published; it says how.
#
#   hack/release.sh 0.2.0
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

fail() { printf 'hack/release.sh: %s\n' "$*" >&2; exit 1; }

new=${1:-}
[[ $new =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "say which version, as in: hack/release.sh 0.2.0"
old=$(sed -nE 's/^__version__ = "(.*)"$/\1/p' kproxy/__init__.py)
today=$(date --utc +%F)

[ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed; commit or stash them"
[ -z "$(git tag --list "v$new")" ] || fail "the tag v$new is there already"
changes=$(awk '/^## /{ inside = /^## \[Unreleased\]/; next } inside && /^- /' CHANGELOG.md)
[ -n "$changes" ] || fail "CHANGELOG.md names no unreleased change"

# Where the version stands: kproxy itself, the image's tag in the manifests and scripts, and what the docs say of both.
git grep -lzF "$old" -- kproxy/__init__.py Dockerfile deploy | xargs -0 sed -i "s/\b${old//./\\.}\b/$new/g"
sed -i "s/^## \[Unreleased\]$/&\n\n## [$new] - $today/" CHANGELOG.md

git commit --quiet --all --message "Release $new"
git tag --annotate "v$new" --message "kproxy $new" --message "$changes"
cat <<END
Committed and tagged v$new. Then:
  hack/test.sh                          all tests of it; git reset --hard HEAD~ && git tag -d v$new takes it back
  docker build -t kproxy:$new .         its image, on a machine of each architecture
  git push --follow-tags
END
