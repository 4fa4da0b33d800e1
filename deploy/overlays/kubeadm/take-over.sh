#!/usr/bin/env bash
# kproxy takes over from kube-proxy, node by node:
#
#   take-over.sh               all nodes
#   take-over.sh NODE ...      these nodes
#
# On each node kube-proxy leaves its rules in force when it ends, and kproxy, which writes the same ones, carries on from
# them: no connection is dropped. Where kproxy does not get ready, the node goes back to kube-proxy and this script ends.
# It can be started again at any time. Takes kubectl with the rights of a cluster's administrator.
set -euo pipefail
cd "$(dirname "$0")"

ready_seconds=120
say() { printf '%s\n' "$*"; }
fail() { printf 'take-over.sh: %s\n' "$*" >&2; exit 1; }
k() { kubectl --namespace kube-system "$@"; }

k get daemonset kube-proxy >/dev/null 2>&1 ||
    fail "there is no DaemonSet kube-proxy in kube-system; for clusters without it see deploy/docs/install.md"
for key in 'config\.conf' 'kubeconfig\.conf'; do
    [ -n "$(k get configmap kube-proxy --output "jsonpath={.data.$key}" 2>/dev/null)" ] ||
        fail "the ConfigMap kube-proxy in kube-system has no ${key//\\/}, by which kproxy would reach the API server"
done
# In any other mode kube-proxy would leave rules behind that kproxy does not write over, and that would win over kproxy's.
if k get configmap kube-proxy --output 'jsonpath={.data.config\.conf}' | grep -Eq '^mode: *"?(ipvs|nftables|kernelspace)"?'; then
    fail "kube-proxy does not run in mode iptables. Set mode to iptables in the ConfigMap kube-proxy, restart kube-proxy" \
        "(kubectl -n kube-system rollout restart ds/kube-proxy), which removes its other rules, and start this again"
fi

say "Installing kproxy, on no node yet"
kubectl apply --kustomize .
say "Telling kube-proxy to leave nodes with the label kproxy.dev/proxy=kproxy"
k patch daemonset kube-proxy --patch-file kube-proxy-elsewhere.yaml
k rollout status daemonset/kube-proxy --timeout=600s

if [ $# -eq 0 ]; then
    mapfile -t nodes < <(kubectl get nodes --selector kubernetes.io/os=linux --output 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}')
    set -- "${nodes[@]}"
fi

pod_on() { k get pods --selector app.kubernetes.io/name=kproxy --field-selector "spec.nodeName=$1" --output name; }

# There may be no pod yet: the DaemonSet's controller takes a moment.
get_ready() {
    local node=$1 deadline=$((SECONDS + ready_seconds)) pod=
    while [ -z "$pod" ] && [ "$SECONDS" -lt "$deadline" ]; do
        pod=$(pod_on "$node")
        [ -n "$pod" ] || sleep 1
    done
    [ -n "$pod" ] && k wait --for=condition=Ready "$pod" --timeout="$((deadline - SECONDS))s"
}

for node; do
    say "$node: from kube-proxy to kproxy"
    kubectl label node "$node" kproxy.dev/proxy=kproxy --overwrite
    if ! get_ready "$node"; then
        pod=$(pod_on "$node")
        [ -z "$pod" ] || k logs "$pod" --all-containers --tail=20 || true
        kubectl label node "$node" kproxy.dev/proxy-
        fail "$node: kproxy did not get ready in $ready_seconds s; the node is kube-proxy's again. See its log above."
    fi
done
say "Done. The way back is give-back.sh."
