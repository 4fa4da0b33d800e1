"""From API objects to service ports and endpoints, and which of them changed. Pure: values in, values out."""
