"""The second text's first example: sentence vectors by averaging, saved for R. Changed: the import."""

import numpy as np
import torch

from nativebert.hf import BertModel, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("bert-base-uncased")
model = BertModel.from_pretrained("bert-base-uncased")

sentences = ["This is a positive sentence.", "This is a negative sentence."]
encoded_input = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")

with torch.no_grad():
    model_output = model(**encoded_input)
    embeddings = model_output.last_hidden_state.mean(dim=1).numpy()

np.save("bert_embeddings.npy", embeddings)
results = embeddings
