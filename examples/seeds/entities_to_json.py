"""The second text's third example, without spaCy: named entities to a JSON file that R reads with jsonlite."""

import json

import nativebert as nb

tag = nb.Tagger("dslim/bert-base-NER")

text = "Apple is looking at buying U.K. startup for $1 billion"
entities = [(entity["text"], entity["label"]) for entity in tag(text)[0]]

with open("ner_results.json", "w") as f:
    json.dump(entities, f)
print(entities)
