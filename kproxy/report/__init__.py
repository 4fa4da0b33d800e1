"""What the daemon tells the world, and how it can be asked.

`reporter` hears from the loop and passes on: to `metrics`, to `health` (which verdict a probe gets), to `healthcheck`
(the health-check node ports of Services), to `connections` (how many each Service was given, read as often as `ration`
allows), `conntrack` (what was released) and `node` (what is wrong with the node). `events` writes to the API server
what `healthcheck` and `node` have to complain of: that each is said once, is their affair. `http` is all the HTTP that
kproxy serves, spoken by `protocol` at `ports`; `pages` is what is served at which path, `status` one screen of it all,
as data.

`page` is the page to look at, with what it asks for.

What a metric tells is made elsewhere: the moments that network programming is timed by are gathered in
`kproxy.proxier.family` (and made a time of in `metrics`' `setters`), connections are counted by the backends. What
`kproxy status` tells of this node, `kproxy.daemon.inspect` puts together; `status` is no more than its form.
"""
