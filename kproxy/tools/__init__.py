"""What people run beside the daemon: `render` prints the rules for objects in files."""
