"""Fine-tuning with the Trainer: evaluation and a checkpoint after each epoch. Changed: the import."""

import torch

import nativebert.hf as transformers

name = "distilbert-base-uncased-finetuned-sst-2-english"
tokenizer = transformers.AutoTokenizer.from_pretrained(name)
clf = transformers.AutoModelForSequenceClassification.from_pretrained(name)


class Reviews(torch.utils.data.Dataset):
    def __init__(self, texts, labels):
        self.encodings, self.labels = tokenizer(texts, truncation=True, padding=True), labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, n):
        return {**{key: values[n] for key, values in self.encodings.items()}, "labels": self.labels[n]}


good = [
    f"{what} was {how}."
    for what in ("The food", "The staff", "Our room")
    for how in ("excellent", "a delight", "very good", "well done")
]
bad = [
    f"{what} was {how}."
    for what in ("The food", "The staff", "Our room")
    for how in ("disappointing", "slow", "a mess", "rather bad")
]
train_dataset = Reviews(good[:8] + bad[:8], [1] * 8 + [0] * 8)
eval_dataset = Reviews(good[8:] + bad[8:], [1] * 4 + [0] * 4)

args = transformers.TrainingArguments(
    output_dir="./results",
    num_train_epochs=3,
    per_device_train_batch_size=16,
    learning_rate=2e-5,
    eval_strategy="epoch",
    save_strategy="epoch",
)
trainer = transformers.Trainer(model=clf, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset)
trainer.train()

results = torch.tensor(trainer.predict(eval_dataset).predictions)
print(results.argmax(dim=1))
