"""The node kproxy runs on: what it is, what is set on it, and what is wrong with it.

`facts` and `interfaces` say what planning needs, `sysctl`, `memory` and `limits` set what is to be set, and `raised`
remembers what was there before. `problems` is a table of what can be wrong, over what `survey` has seen. `door` says
where a kproxy that runs here can be asked.
"""
