"""Is it the same model? Layer by layer, on full tensors, against a reference run in float64."""
