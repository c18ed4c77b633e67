"""Texts from files, results to files."""
