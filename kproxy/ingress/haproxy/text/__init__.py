"""What an HAProxy configuration is made of (`model`), and how it is spelt.

`render` prints it, `quoting` sees to it that a word stays a word; `diff` says what two of them differ in, and whether
that takes a reload. `counts` reads what HAProxy has counted.
"""
