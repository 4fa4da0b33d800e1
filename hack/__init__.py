"""What a developer runs: the lab, the demo, the benchmarks. Nothing here is part of the installed kproxy.

`lab` is a cluster's network on one machine, on which `demo` shows kproxy, `tour` explains Kubernetes' network, and
`bench` measures. `record` takes recordings of kube-proxy's rules, `screenshot` the picture of the page;
`browser` is what a page is looked at in.
"""
