"""What a developer runs: the lab, the demo, the benchmarks. Nothing here is part of the installed kproxy."""
