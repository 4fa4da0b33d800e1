"""What keeps one fault from spreading, in both programs.

`containment` keeps the failure of one part from ending the others; `bisect` finds the one object for whose sake a step
is refused, so that it can be left out and all others take effect; `output` says in one line that a result can't be
written, `undecodable` is what is raised for bytes that make no sense.
"""
