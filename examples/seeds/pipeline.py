"""A pipeline for sentiment. Changed: the import."""

import nativebert.hf as transformers

classifier = transformers.pipeline("sentiment-analysis")
results = classifier(["This course is excellent.", "The explanation was very confusing."])
print(results)
