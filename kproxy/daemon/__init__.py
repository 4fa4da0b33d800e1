"""``kproxy run`` put together: the composition root.

`run` alone knows all the parts and wires them up, `engines` chooses which backend writes the rules and clears away what
another has left, `signals` turns signals into calls. `door` is the socket that people ask by, `inspect` answers them,
`rates` has connections a second for it. `settings` makes kernel settings and puts them back with their mode, `nodeview`
puts together what is known of the node, to be judged. `look` is whom the page at / asks.
"""
