"""Measurements. Machines are noisy: compare figures of one run only, and look at the ratio to the yardstick.

README.md tells what each of them measures: `connect`, `conntrack`, `explain`, `ingress`, `load`, `looks`, `memory`,
`page`, `programming`, `scrape`, `soak`, `start` and `walk`. They stand on `cluster` (a node under kproxy, in the lab),
`options` (what all take) and `report` (what all print); `replay` is the server of `load`, `traced` the kproxy of
`memory`, `byhand` what `ingress` compares with.
"""
