"""What people run beside the program: ``kproxy ingress render``, and ``kproxy explain`` for URLs."""
