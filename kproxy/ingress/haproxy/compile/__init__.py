"""From an HTTP plan to a configuration: pure, and with the same result for the same plan."""
