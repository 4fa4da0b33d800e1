"""The loop that turns the crank: wait for changes, plan, apply, tell an observer.

`loop` is the crank itself; it also compares what it holds with a fresh list, so that what is gone goes. `family` is
what it holds of each address family: the changes not yet applied, and since when they wait. `observer` hears of it,
`inbox` is where sources leave objects for it, `pacing` how long it rests between two syncs.
"""
