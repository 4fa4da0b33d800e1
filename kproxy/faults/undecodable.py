"""What msgspec raises for bytes that are not what they should be."""

import msgspec

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""For another form, for half a character, for more nesting than there is room for."""
