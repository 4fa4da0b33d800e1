"""What tests share, and no test itself.

* `apiserver`: a Kubernetes API server, with faults on demand; `sources`: what watches it, and the way there.
* `packets`: kproxy at work in the lab, which `lab` has as a fixture, `variants` once for each iptables;
  `netns` is a single namespace.
* `semantics`: random clusters, and an oracle that says what must become of packets in them.
* `iptables` and `nft`: rules of either kind, for the tests of the backends; `held` is a node that holds some.
* `deploy`: manifests, pages of the docs, the image.
* `browser` looks at pages, `hostile` is what strangers may have written, `views` are what explanations are made from,
  `totals` what may only grow; `waiting` is for what threads do, `clock` is set by hand.
* `logged` is what was logged meanwhile, `paths` says where things are, `examples` how many a property test tries,
  `spread` in which order files are run, `side_by_side` runs several at once; `yaml_text` is YAML.
"""
