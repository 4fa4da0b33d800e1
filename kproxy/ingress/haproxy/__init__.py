"""The right end of ``kproxy ingress``: spells an HTTP plan out for HAProxy, and keeps HAProxy doing what it says.

`text` holds the nouns (maps, slots, servers) and the language's spelling; `compile` translates a plan into them,
without deciding anything; `control` is all that touches the machine; `engine` puts them together. `settings` is what it
is told; `refusals` remembers what HAProxy does not take, of the `units` a plan can do without; `errors` are what can go
wrong.
"""
