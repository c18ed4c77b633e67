"""Tokenizer and model apart, and a vector for each token. Changed: the import."""

import torch

import nativebert.hf as transformers

tokenizer = transformers.AutoTokenizer.from_pretrained("distilbert-base-uncased")
model_hf = transformers.AutoModel.from_pretrained("distilbert-base-uncased")

tokens = tokenizer("Deep learning is powerful.", return_tensors="pt")
with torch.no_grad():
    output = model_hf(**tokens)

results = output.last_hidden_state
print(results.shape)  # [1, tokens, width]: one vector for each token
