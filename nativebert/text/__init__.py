"""Text on its way to the encoder: tokens, windows over long text, and packed batches."""
