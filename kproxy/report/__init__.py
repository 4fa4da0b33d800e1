"""What the daemon tells the world, and how it can be asked.

`reporter` hears from the loop and passes on: to `metrics`, to `health` (which verdict a probe gets), to `healthcheck`
(the health-check node ports of Services) and to `connections` (how many each Service was given). `events` writes to
the API server. `http` is all the HTTP that kproxy serves, `pages` what is served at which path.
"""
