"""Docstrings refer to names as Sphinx does, :class:`~a.b.C`; the site shows `C`, with a link where it has a page on it."""

import re

import griffe

ROLE = re.compile(r":(?:class|meth|func|mod|data|attr|exc):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda m: f"`{m[2].rpartition('.')[2] if m[1] else m[2]}`", obj.docstring.value)
