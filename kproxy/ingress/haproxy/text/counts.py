"""How the time of requests is counted: in a stick table of HAProxy's, whose key is the slot."""

BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
"""Upper bounds of the histogram's buckets, in milliseconds; there is one more above."""
BUSY = 200
"""Requests a second at a frontend from which on not every one is timed, but one of `SAMPLE`."""
SAMPLE = 16
SAMPLED = "*"
"""Behind a slot's name: the times under this key are of a sample, so that each stands for `SAMPLE` requests."""
