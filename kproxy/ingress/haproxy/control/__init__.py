"""All that touches the machine: `files`, the `process`, its `runtime` socket, the `pipe` for its access log."""
