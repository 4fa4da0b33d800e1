"""Every decision a service proxy takes, taken once, for all backends. Pure: values in, values out."""
