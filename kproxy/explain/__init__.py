"""What becomes of a connection, and why: all that ``kproxy explain`` has to say, as data. Pure.

`question` reads what is asked about, `view` is what one address family's state has to offer, `sender` is who connects.
`decision` asks the plan what becomes of the connection, `near` looks for what may have been meant where no Service is,
`compare` holds what the kernel's rules do against it. `answer` puts all that together, in the words of `model`, which
is also the JSON that people may rely on; `protocol` is how it is asked of a running daemon.
"""
