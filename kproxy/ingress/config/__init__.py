"""Everything about the settings of ``kproxy ingress``: its flags and its configuration file, read, merged, checked.

They are the service proxy's in form: flags look and behave as in `kproxy.config`, and a file says the same in YAML.
``schema`` has the fields, ``flags`` what is said on the command line, ``settings`` what comes of both.
"""
