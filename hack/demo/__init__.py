"""The demo: a small shop on two nodes, and kproxy under its Services. Start it with ``hack/demo.sh``."""
