"""What the tests of deploy/ share.

`manifests` reads what is there, `docs` makes the parts of its pages that come from code. `image` builds the image,
`containers` runs it as the kubelet would; `prometheus` is a real one, in the lab.
"""
