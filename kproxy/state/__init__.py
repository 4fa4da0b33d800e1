"""From API objects to service ports and endpoints, and which of them changed. Pure: values in, values out.

Begin with `model`, the nouns. `services` and `slices` make them of objects, by the checks in `findings` and
`addresses`: nothing unsound gets past here. `tracker` holds them, knows what has yet to reach the kernel, and which are
missing from a fresh list.
"""
