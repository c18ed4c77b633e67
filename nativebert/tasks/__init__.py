"""Text in, plain results out."""
