"""Measurements. Machines are noisy: compare figures of one run only, and look at the ratio to the yardstick."""
