"""The Keras example's flow, natively: fit, save, load elsewhere, predict. The folder holds the tokenizer too, and transformers reads it."""

import nativebert as nb

sentences = [f"This is a {word} sentence." for word in ("positive", "nice", "good", "fine", "negative", "sad", "bad", "poor")]
labels = ["positive"] * 4 + ["negative"] * 4

nb.train.classify(
    {"text": sentences, "label": labels},
    model="bert-base-uncased",
    output="fine_tuned_bert",
    epochs=3,
    batch_size=4,
    learning_rate=5e-5,
    validation_split=0.25,
)

# in another program, another day
classify = nb.Classifier("fine_tuned_bert")
new_sentences = ["This is another positive sentence.", "This is a rather negative sentence."]
for sentence, result in zip(new_sentences, classify(new_sentences)):
    print(f"{result['label']} ({result['score']:.2f}): {sentence}")
