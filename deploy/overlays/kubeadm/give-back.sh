#!/usr/bin/env bash
# Gives nodes back to kube-proxy, one by one:
#
#   give-back.sh               all nodes that kproxy has, after which kproxy is removed
#   give-back.sh NODE ...      these nodes
#
# No connection is dropped: kproxy leaves its rules in force, and kube-proxy, which writes the same ones, carries on. In
# mode nftables, and in clusters with more than 1,000 endpoints, kproxy arranges its rules in a way of its own, which
# kube-proxy would not clean up; so kproxy is told first to write them as kube-proxy does.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '%s\n' "$*"; }
fail() { printf 'give-back.sh: %s\n' "$*" >&2; exit 1; }
k() { kubectl --namespace kube-system "$@"; }

k get daemonset kproxy >/dev/null 2>&1 || fail "there is no DaemonSet kproxy in kube-system"
k get daemonset kube-proxy >/dev/null 2>&1 ||
    fail "there is no DaemonSet kube-proxy to give nodes back to; 'kubeadm init phase addon kube-proxy' makes one"

say "Telling kproxy to write its rules as kube-proxy does"
args=$(k get daemonset kproxy --output 'jsonpath={.spec.template.spec.containers[0].args}')
for flag in --proxy-mode=iptables --layout=classic; do
    [[ $args == *"$flag"* ]] || k patch daemonset kproxy --type=json \
        --patch='[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "'"$flag"'"}]'
done
k rollout status daemonset/kproxy --timeout=600s

all=
if [ $# -eq 0 ]; then
    all=yes
    mapfile -t nodes < <(kubectl get nodes --selector kproxy.dev/proxy=kproxy --output 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}')
    set -- "${nodes[@]}"
fi

pod_on() { k get pods --selector k8s-app=kube-proxy,app.kubernetes.io/name!=kproxy --field-selector "spec.nodeName=$1" --output name; }

for node; do
    [ -n "$node" ] || continue
    say "$node: from kproxy to kube-proxy"
    kubectl label node "$node" kproxy.dev/proxy-
    pod=
    for _ in $(seq 120); do
        pod=$(pod_on "$node")
        [ -z "$pod" ] || break
        sleep 1
    done
    [ -n "$pod" ] || fail "$node: kube-proxy's DaemonSet has made no pod there"
    k wait --for=condition=Ready "$pod" --timeout=120s
done

if [ -n "$all" ]; then
    say "Removing kproxy"
    kubectl delete --kustomize . --ignore-not-found
    k patch daemonset kube-proxy --type=json --patch='[{"op": "remove", "path": "/spec/template/spec/affinity"}]'
fi
say "Done."
