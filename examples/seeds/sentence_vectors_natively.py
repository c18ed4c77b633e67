"""The same, natively: nothing padded, so nothing averaged that is not text, and long texts cut with a warning or not at all."""

import numpy as np

import nativebert as nb

embed = nb.Embedder("bert-base-uncased", pooling="mean")
np.save("bert_embeddings.npy", embed(["This is a positive sentence.", "This is a negative sentence."]))
