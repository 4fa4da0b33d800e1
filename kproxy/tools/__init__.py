"""What people run beside the daemon.

`render` prints the rules for objects in files, `explain` says what becomes of a connection, `diff` what would change in
the kernel, `status` how kproxy does; `options` are what their command lines take. `objects` reads files and `narrow`
picks those that matter; `ask` asks the daemon, `scrape` the ports of another node; `explained` puts an answer into
words, `screen` is the door to tables and colours.
"""
