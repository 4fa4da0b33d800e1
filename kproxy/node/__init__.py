"""The node kproxy runs on: what it is, what is set on it, and what is wrong with it.

`facts` and `interfaces` say what planning needs. `sysctl` makes kernel settings, conntrack's among them, and `raised`
remembers what was there before; `memory` and `limits` (on open files) are about this process. `problems` is a table of
what can be wrong, over what `survey` has seen. `door` says where a kproxy that runs here can be asked.
"""
