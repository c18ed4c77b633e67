"""Classification by a model with a head. Changed: the import."""

import torch

import nativebert.hf as transformers

tokenizer = transformers.AutoTokenizer.from_pretrained("distilbert-base-uncased")
clf = transformers.AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")

sentences = ["The food was excellent.", "The service was slow and disappointing."]
inputs = tokenizer(sentences, padding=True, return_tensors="pt")
with torch.no_grad():
    logits = clf(**inputs).logits

predictions = logits.argmax(dim=1)
labels = ["NEGATIVE", "POSITIVE"]
results = [labels[n] for n in predictions]
print(results)
