"""What the tests of sources share: those of watches, and of the way to the API server.

`watching_world` is a server, a source and a sink that remembers (`recording`). `ways` are rows of a table about ways to
the server, `clients` and `proxies` what such a way is made of.
"""
