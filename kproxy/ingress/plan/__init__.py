"""Every decision about an HTTP request, taken once, whichever API said it. Pure: values in, values out.

Begin with `model`, which says what there is to decide.
"""
