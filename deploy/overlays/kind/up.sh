#!/usr/bin/env bash
# A kind cluster with kproxy in place of kube-proxy: builds the image, makes the cluster, loads the image, applies this
# overlay, and waits until every node has its rules. Takes docker (or podman), kind and kubectl.
#
#   up.sh [NAME]       a cluster of this name; kind, by default. It can be there already, if it has no kube-proxy.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
name=${1:-kind}
image=kproxy:0.1.0

fail() { printf 'up.sh: %s\n' "$*" >&2; exit 1; }
engine=docker
command -v docker >/dev/null || engine=podman
for tool in "$engine" kind kubectl; do
    command -v "$tool" >/dev/null || fail "$tool is needed, and not here"
done
context=kind-$name

"$engine" build --tag "$image" "$root"
kind get clusters 2>/dev/null | grep -qx "$name" || kind create cluster --name "$name" --config "$here/cluster.yaml"
if kubectl --context "$context" --namespace kube-system get daemonset kube-proxy >/dev/null 2>&1; then
    fail "cluster $name has a kube-proxy; use deploy/overlays/kubeadm/take-over.sh there"
fi
if [ "$engine" = docker ]; then
    kind load docker-image "$image" --name "$name"
else
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    podman save --output "$archive" "$image"
    kind load image-archive "$archive" --name "$name"
fi
# The control plane's container is named after the cluster.
kubectl kustomize "$here" | sed "s/value: kind-control-plane$/value: $name-control-plane/" |
    kubectl --context "$context" apply --filename -
kubectl --context "$context" --namespace kube-system rollout status daemonset/kproxy --timeout=180s
kubectl --context "$context" wait --for=condition=Ready nodes --all --timeout=180s
