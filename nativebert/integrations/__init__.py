"""Adapters that other programs recognise: a file for each program, which needs that program's package and is imported by name.

``nativebert.integrations.bertopic``, ``.datasets``, ``.keybert``, ``.langchain``, ``.sklearn``, ``.spacy``; docs/integrations.md has a recipe
for each. Nothing else in nativebert imports them.
"""
