"""The node kproxy runs on: what it is (`facts`, `interfaces`) and what is set on it (`sysctl`, `memory`)."""
