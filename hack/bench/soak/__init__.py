"""A long run with everything that a daemon meets in its life, to see whether anything grows.

* `world`: the cluster, the daemon, and what is done to them
* `schedule`: when
* `samples`: what is written down meanwhile, and whether it is flat
* `plot`: a picture of it
"""
