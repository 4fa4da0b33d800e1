"""Objects of the ingress program, and how it gets at them."""
