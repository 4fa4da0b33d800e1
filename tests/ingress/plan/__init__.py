"""The HTTP plan."""
