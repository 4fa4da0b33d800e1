"""Tests of kproxy: one file per behaviour."""
