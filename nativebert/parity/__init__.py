"""Comparison with transformers, layer by layer on full tensors, against a float64 reference; batch invariance; quality of a precision."""
