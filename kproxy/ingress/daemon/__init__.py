"""``kproxy ingress`` put together: ``run`` knows all the parts, ``loop`` turns the crank."""
