"""What an HAProxy configuration is made of, how it is spelled, and what two of them differ in."""
