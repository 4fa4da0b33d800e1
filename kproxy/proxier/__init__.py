"""The loop that turns the crank: wait for changes, plan, apply, tell an observer.

`loop` is the crank itself, `family` what it holds of each address family, `observer` who hears of it, `inbox` where
sources leave objects for it, `pacing` how long it rests between two syncs.
"""
