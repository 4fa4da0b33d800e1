"""What becomes of one HTTP request, and why: the answer behind ``kproxy explain http://HOST/PATH``. Pure.

``question`` reads a URL, ``answer`` walks the plan with it, ``model`` is the document that comes out, ``reply`` how a
running program is asked.
"""
