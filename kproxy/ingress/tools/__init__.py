"""What people run beside the program: `render` and, for URLs, `explain`; `objects` reads files."""
