"""What the API server answers: Kubernetes' semantics, without a socket.

`api` is the way from a request to its answer: `listing`, `watching`, `writes` (with `patches` and `defaults`) or
`discovery`, or a `status` that says no. `store` keeps the objects and their history, `selectors` pick among them.
"""
