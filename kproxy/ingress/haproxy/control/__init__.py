"""All that touches the machine: `files`, `process`, its `runtime` socket, its log's `pipe`, `binds` to listen at."""
