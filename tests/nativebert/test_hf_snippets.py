"""Short programs as the documentation of transformers and sentence-transformers has them, run as they are and with another import line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hf_checkpoints import make
from models import one_thread

pytestmark = pytest.mark.reference

# Names of models -> the checkpoint that stands for them, on both sides.
MODELS = {
    "sentence-transformers/all-MiniLM-L6-v2": "minilm",
    "all-MiniLM-L6-v2": "minilm",
    "multi-qa-MiniLM-L6-cos-v1": "minilm",
    "paraphrase-MiniLM-L6-v2": "minilm",
    "distilbert-base-uncased-finetuned-sst-2-english": "sentiment",
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": "sentiment",
    "bhadresh-savani/bert-base-uncased-emotion": "emotions",
    "unitary/toxic-bert": "toxic",
    "dslim/bert-base-NER": "ner",
    "distilbert-base-uncased-distilled-squad": "qa",
    "bert-base-uncased": "bert",
    "google-bert/bert-base-uncased": "mlm",
    "distilbert-base-uncased": "distilbert",
    "my/nli": "nli",
    "my/choice": "choice",
    "my/nsp": "nsp",
    "cross-encoder/ms-marco-MiniLM-L6-v2": "cross",
    "cross-encoder/nli-MiniLM2-L6-H768": "nli",
}


@dataclass(frozen=True)
class Snippet:
    """A program, and the names of the values to compare."""

    name: str
    results: str
    text: str


SNIPPETS = [
    # ---- transformers: the quick tour, the pipelines, the task guides, model cards
    Snippet("tour of sentiment", "result", '''
from transformers import pipeline

classifier = pipeline("sentiment-analysis", model="distilbert-base-uncased-finetuned-sst-2-english")
result = classifier("We are very happy to show you the library.")
'''),
    Snippet("several texts", "lines", '''
from transformers import pipeline

classifier = pipeline("sentiment-analysis", model="distilbert-base-uncased-finetuned-sst-2-english")
results = classifier(["We are very happy.", "We hope you don't hate it."])
lines = [f"label: {result['label']}, with score: {round(result['score'], 4)}" for result in results]
'''),
    Snippet("model and tokenizer of your own", "result", '''
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

name = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
model = AutoModelForSequenceClassification.from_pretrained(name)
tokenizer = AutoTokenizer.from_pretrained(name)
classifier = pipeline("text-classification", model=model, tokenizer=tokenizer)
result = classifier("Nous sommes heureux.")
'''),
    Snippet("logits to probabilities", "probabilities label", '''
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name)
batch = tokenizer(["We are very happy.", "A bad day"], padding=True, truncation=True, max_length=64, return_tensors="pt")
with torch.no_grad():
    outputs = model(**batch)
probabilities = nn.functional.softmax(outputs.logits, dim=-1)
label = model.config.id2label[outputs.logits[0].argmax().item()]
'''),
    Snippet("all emotions", "result again", '''
from transformers import pipeline

classifier = pipeline("text-classification", model="bhadresh-savani/bert-base-uncased-emotion", top_k=None)
result = classifier("I love using transformers.")
again = classifier(["I love it.", "I hate it."], top_k=2, batch_size=2)
'''),
    Snippet("several labels at once", "scores", '''
from transformers import pipeline

pipe = pipeline(model="unitary/toxic-bert", task="text-classification", function_to_apply="sigmoid", top_k=None)
scores = {one["label"]: one["score"] for one in pipe("You are a fool.", truncation=True)[0]}
'''),
    Snippet("a pair of texts", "result", '''
from transformers import pipeline

pipe = pipeline("text-classification", model="my/nli", device=-1)
result = pipe({"text": "A man eats.", "text_pair": "Somebody is having lunch."})
'''),
    Snippet("a generator", "labels", '''
from transformers import pipeline

pipe = pipeline("text-classification", model="distilbert-base-uncased-finetuned-sst-2-english")

def data():
    for i in range(5):
        yield f"My example number {i}"

labels = [(out["label"], out["score"]) for out in pipe(data())]
'''),
    Snippet("a data set", "found", '''
from torch.utils.data import Dataset
from transformers import pipeline

class Reviews(Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, i):
        return ["good food", "slow service", "a nice day"][i]

pipe = pipeline("sentiment-analysis", model="distilbert-base-uncased-finetuned-sst-2-english")
found = list(pipe(Reviews(), batch_size=2))
'''),
    Snippet("tokens with labels", "entities", '''
from transformers import pipeline

ner = pipeline("ner", model="dslim/bert-base-NER")
entities = ner("Hugging Face Inc. is a company based in New York City, close to the Manhattan Bridge.")
'''),
    Snippet("entities", "found words", '''
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained("dslim/bert-base-NER")
model = AutoModelForTokenClassification.from_pretrained("dslim/bert-base-NER")
nlp = pipeline("ner", model=model, tokenizer=tokenizer, aggregation_strategy="simple")
text = "My name is Wolfgang Amadeus and I live in Berlin-Mitte."
found = nlp(text)
words = [text[one["start"]:one["end"]] for one in found]
'''),
    Snippet("entities of whole words", "first average most", '''
from transformers import pipeline

texts = ["Angela Merkel visited Unterschleissheim.", "The quick brown fox met Johann in Saarbruecken"]
first = pipeline("token-classification", model="dslim/bert-base-NER", aggregation_strategy="first")(texts)
average = pipeline("token-classification", model="dslim/bert-base-NER", aggregation_strategy="average")(texts)
most = pipeline("token-classification", model="dslim/bert-base-NER", aggregation_strategy="max", ignore_labels=["PER"])(texts)
'''),
    Snippet("token classification by hand", "tags", '''
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("dslim/bert-base-NER")
inputs = tokenizer("The Golden State Warriors are from San Francisco", return_tensors="pt")
model = AutoModelForTokenClassification.from_pretrained("dslim/bert-base-NER")
with torch.no_grad():
    logits = model(**inputs).logits
tags = [model.config.id2label[t.item()] for t in torch.argmax(logits, dim=2)[0]]
'''),
    Snippet("a mask", "filled", '''
from transformers import pipeline

unmasker = pipeline("fill-mask", model="google-bert/bert-base-uncased")
filled = unmasker("Hello I'm a [MASK] model.")
'''),
    Snippet("a mask with targets", "few many", '''
from transformers import pipeline

unmasker = pipeline("fill-mask", model="google-bert/bert-base-uncased", top_k=3)
few = unmasker("The man worked as a [MASK].", targets=["carpenter", "waiter"])
many = unmasker(["The woman worked as a [MASK].", "Paris [MASK] the capital [MASK] France."])
'''),
    Snippet("a mask by hand", "words", '''
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-uncased")
inputs = tokenizer("The Milky Way is a [MASK] galaxy.", return_tensors="pt")
place = torch.where(inputs["input_ids"] == tokenizer.mask_token_id)[1]
model = AutoModelForMaskedLM.from_pretrained("google-bert/bert-base-uncased")
logits = model(**inputs).logits
best = torch.topk(logits[0, place, :], 3, dim=1).indices[0].tolist()
words = [tokenizer.decode([token]) for token in best]
'''),
    Snippet("features", "shape nested", '''
from transformers import pipeline

extractor = pipeline("feature-extraction", model="distilbert-base-uncased")
nested = extractor("This is a simple test.")
tensor = extractor("This is a simple test.", return_tensors=True)
shape = tuple(tensor.shape)
'''),
    Snippet("labels of your own", "result", '''
from transformers import pipeline

oracle = pipeline("zero-shot-classification", model="my/nli")
result = oracle(
    "I have a problem with my phone that needs to be resolved asap!",
    candidate_labels=["urgent", "not urgent", "phone", "tablet", "computer"],
)
'''),
    Snippet("labels by themselves", "result", '''
from transformers import pipeline

oracle = pipeline(task="zero-shot-classification", model="my/nli")
texts = ["one day I will see the world", "who wants to dance"]
result = oracle(texts, ["travel", "cooking", "dancing"], hypothesis_template="This text is about {}.", multi_label=True)
'''),
    Snippet("an answer by hand", "answer", '''
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("distilbert-base-uncased-distilled-squad")
model = AutoModelForQuestionAnswering.from_pretrained("distilbert-base-uncased-distilled-squad")
question, context = "How many languages does it support?", "The model has 176 billion parameters and knows 46 languages."
inputs = tokenizer(question, context, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
start, end = outputs.start_logits.argmax(), outputs.end_logits.argmax()
start, end = min(start, end), max(start, end)
answer = tokenizer.decode(inputs.input_ids[0, start : end + 1])
'''),
    Snippet("a choice", "choice logits", '''
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

prompt = "France has a bread law."
candidates = ["The law does not apply to croissants.", "The law applies to baguettes."]
tokenizer = AutoTokenizer.from_pretrained("my/choice")
inputs = tokenizer([[prompt, candidates[0]], [prompt, candidates[1]]], return_tensors="pt", padding=True)
model = AutoModelForMultipleChoice.from_pretrained("my/choice")
logits = model(**{k: v.unsqueeze(0) for k, v in inputs.items()}).logits
choice = logits.argmax().item()
'''),
    Snippet("the next sentence", "logits", '''
from transformers import AutoTokenizer, BertForNextSentencePrediction

tokenizer = AutoTokenizer.from_pretrained("my/nsp")
model = BertForNextSentencePrediction.from_pretrained("my/nsp")
encoding = tokenizer("In Italy, pizza is served uncut.", "The sky is blue.", return_tensors="pt")
logits = model(**encoding).logits
'''),
    Snippet("mean pooling of a model card", "embeddings", '''
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

def mean_pooling(output, attention_mask):
    tokens = output[0]
    mask = attention_mask.unsqueeze(-1).expand(tokens.size()).float()
    return torch.sum(tokens * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)

sentences = ["This is an example sentence", "Each sentence is converted, however long it may be"]
tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
model = AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
encoded = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    output = model(**encoded)
embeddings = F.normalize(mean_pooling(output, encoded["attention_mask"]), p=2, dim=1)
'''),
    Snippet("states of padding too", "state pooled", '''
import torch
from transformers import BertModel, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("bert-base-uncased")
model = BertModel.from_pretrained("bert-base-uncased")
encoded = tokenizer(["a text", "a text that is quite a bit longer"], padding=True, return_tensors="pt")
with torch.no_grad():
    output = model(**encoded)
state, pooled = output.last_hidden_state, output.pooler_output
'''),
    Snippet("the last four layers", "vector count attention", '''
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
model = AutoModel.from_pretrained("bert-base-uncased", output_hidden_states=True, output_attentions=True, attn_implementation="eager")
model.eval()
with torch.no_grad():
    outputs = model(**tokenizer("The bank of the river", return_tensors="pt"))
count = len(outputs.hidden_states)
vector = torch.stack(outputs.hidden_states[-2:]).sum(0).squeeze()[1:-1].mean(0)
attention = outputs.attentions[-1][0].mean(0)
'''),
    Snippet("padding and truncation", "ids mask texts", '''
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
batch = ["But what about second breakfast?", "Don't think he knows about second breakfast, Pip.", "What about elevensies?"]
encoded = tokenizer(batch, padding="max_length", truncation=True, max_length=10)
ids, mask = encoded["input_ids"], encoded["attention_mask"]
texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
'''),
    Snippet("words of tokens", "tokens words offsets pieces", '''
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
encoding = tokenizer("My name is Sylvain and I work in Brooklyn.", "Do I?", return_offsets_mapping=True)
tokens, words = encoding.tokens(), encoding.word_ids()
offsets = encoding["offset_mapping"]
pieces = tokenizer.tokenize("Using a Transformer network is simple")
'''),
    Snippet("a config", "labels width", '''
from transformers import AutoConfig

config = AutoConfig.from_pretrained("bhadresh-savani/bert-base-uncased-emotion")
labels, width = config.id2label, config.hidden_size
'''),
    # ---- the seeds: what people run from R
    Snippet("R: pipelines", "result", '''
import transformers

classifier = transformers.pipeline("sentiment-analysis", model="distilbert-base-uncased-finetuned-sst-2-english")
result = classifier(["This course is excellent.", "The explanation was very confusing."])
'''),
    Snippet("R: AutoModel", "shape state", '''
import torch
import transformers

tokenizer = transformers.AutoTokenizer.from_pretrained("distilbert-base-uncased")
model_hf = transformers.AutoModel.from_pretrained("distilbert-base-uncased")
tokens = tokenizer("Deep learning is powerful.", return_tensors="pt")
with torch.no_grad():
    output = model_hf(**tokens)
state = output.last_hidden_state
shape = tuple(state.shape)
'''),
    Snippet("R: classification", "found", '''
import torch
import transformers

tokenizer = transformers.AutoTokenizer.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
clf = transformers.AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
inputs = tokenizer(["The food was excellent.", "The service was slow and disappointing."], padding=True, return_tensors="pt")
with torch.no_grad():
    logits = clf(**inputs).logits
found = [["NEGATIVE", "POSITIVE"][i] for i in logits.argmax(dim=1).tolist()]
'''),
    Snippet("R: embeddings for a file", "embeddings", '''
from transformers import BertTokenizer, BertModel
import torch
import numpy as np

tokenizer = BertTokenizer.from_pretrained('bert-base-uncased')
model = BertModel.from_pretrained('bert-base-uncased')
sentences = ["This is a positive sentence.", "This is a rather negative sentence, all in all."]
encoded_input = tokenizer(sentences, padding=True, truncation=True, return_tensors='pt')
with torch.no_grad():
    model_output = model(**encoded_input)
    embeddings = model_output.last_hidden_state.mean(dim=1).numpy()
'''),
    # ---- sentence-transformers: quick start, search, mining, cross-encoders
    Snippet("quick start", "shape embeddings similarities", '''
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("all-MiniLM-L6-v2")
sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
embeddings = model.encode(sentences)
shape = embeddings.shape
similarities = model.similarity(embeddings, embeddings)
'''),
    Snippet("pairs of two lists", "rows", '''
from sentence_transformers import SentenceTransformer, util

model = SentenceTransformer("all-MiniLM-L6-v2")
left = ["The cat sits outside", "A man is playing guitar"]
right = ["The dog plays in the garden", "A woman watches TV"]
scores = util.cos_sim(model.encode(left, convert_to_tensor=True), model.encode(right, convert_to_tensor=True))
rows = [(a, b, scores[i][j].item()) for i, a in enumerate(left) for j, b in enumerate(right)]
'''),
    Snippet("search by hand", "found", '''
import torch
from sentence_transformers import SentenceTransformer, util

embedder = SentenceTransformer("all-MiniLM-L6-v2")
corpus = ["A man is eating food.", "The girl is carrying a baby.", "A man is riding a horse.", "A cheetah is running behind its prey."]
corpus_embeddings = embedder.encode_document(corpus, convert_to_tensor=True)
found = []
for query in ["A man is eating pasta.", "A cheetah chases prey across a field."]:
    query_embedding = embedder.encode_query(query, convert_to_tensor=True)
    scores = embedder.similarity(query_embedding, corpus_embeddings)[0]
    top = torch.topk(scores, k=2)
    found.append([(corpus[i], s.item()) for s, i in zip(top.values, top.indices)])
'''),
    Snippet("semantic search", "hits", '''
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search

model = SentenceTransformer("multi-qa-MiniLM-L6-cos-v1")
docs = ["London has 9,787,426 inhabitants at the 2011 census", "London is known for its financial district", "Paris is far away"]
query = model.encode("How many people live in London?")
hits = semantic_search(query, model.encode(docs), top_k=2)[0]
'''),
    Snippet("search by products", "hits", '''
from sentence_transformers import SentenceTransformer, util

model = SentenceTransformer("multi-qa-MiniLM-L6-cos-v1")
docs = model.encode(["a cat on a mat", "rain in winter", "stone islands"], convert_to_tensor=True, normalize_embeddings=True)
hits = util.semantic_search(model.encode(["bad weather", "animals"], convert_to_tensor=True), docs, score_function=util.dot_score)
'''),
    Snippet("paraphrases", "pairs", '''
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import paraphrase_mining

model = SentenceTransformer("all-MiniLM-L6-v2")
sentences = ["The cat sits outside", "A man is playing guitar", "I love pasta", "The new movie is awesome", "The cat plays in the garden",
             "A woman watches TV", "The new movie is so great", "Do you like pizza?"]
pairs = [(sentences[i], sentences[j], score) for score, i, j in paraphrase_mining(model, sentences, top_k=4)[:6]]
'''),
    Snippet("cross-encoder", "scores ranks", '''
from sentence_transformers import CrossEncoder

model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2", max_length=64)
query = "How many people live in Berlin?"
passages = ["Berlin had a population of 3,520,031 in 2019.", "Berlin is well known for its museums.", "Berlin has twelve boroughs."]
scores = model.predict([(query, passage) for passage in passages])
ranks = model.rank(query, passages, return_documents=True, top_k=2)
'''),
    Snippet("retrieve and rerank", "order", '''
from sentence_transformers import CrossEncoder, SentenceTransformer, util

bi_encoder = SentenceTransformer("multi-qa-MiniLM-L6-cos-v1")
cross_encoder = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")
passages = ["Cats sleep most of the day.", "The island is made of stone.", "A dog barks at night.", "Pasta is made of flour."]
corpus = bi_encoder.encode(passages, convert_to_tensor=True, show_progress_bar=False)
query = "What do cats do?"
hits = util.semantic_search(bi_encoder.encode(query, convert_to_tensor=True), corpus, top_k=3)[0]
scores = cross_encoder.predict([[query, passages[hit["corpus_id"]]] for hit in hits])
for hit, score in zip(hits, scores):
    hit["cross-score"] = float(score)
order = [(hit["corpus_id"], hit["cross-score"]) for hit in sorted(hits, key=lambda x: x["cross-score"], reverse=True)]
'''),
    Snippet("entailment by a cross-encoder", "scores labels probabilities", '''
import torch
from sentence_transformers import CrossEncoder

model = CrossEncoder("cross-encoder/nli-MiniLM2-L6-H768")
pairs = [("A man is eating pizza", "A man eats something"), ("A black race car starts up.", "A man is driving down a lonely road.")]
scores = model.predict(pairs)
labels = [["contradiction", "neutral", "entailment"][i] for i in scores.argmax(axis=1)]
probabilities = model.predict(pairs, apply_softmax=True, convert_to_tensor=True)
'''),
    Snippet("raw scores", "one several", '''
import torch
from sentence_transformers import CrossEncoder

model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2", activation_fn=torch.nn.Identity())
one = float(model.predict(["a query", "a document"]))
several = model.predict([["a query", "a document"], ["a query", "another"]], activation_fn=torch.nn.Sigmoid(), convert_to_tensor=True)
'''),
    Snippet("prompts", "query plain", '''
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("all-MiniLM-L6-v2", prompts={"query": "query: ", "passage": "passage: "}, default_prompt_name="passage")
query = model.encode("How to bake bread", prompt_name="query")
plain = model.encode(["Mix flour and water"])
'''),
    Snippet("length", "before after vector", '''
import warnings
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("all-MiniLM-L6-v2")
before = model.max_seq_length
model.max_seq_length = 8
after = model.max_seq_length
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    vector = model.encode("This sentence is longer than the eight tokens that are left for it")
'''),
    Snippet("fewer numbers", "size table", '''
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("all-MiniLM-L6-v2", truncate_dim=64)
embeddings = model.encode(["I saw it on a hill", "A photo of a mountain"], normalize_embeddings=True)
size, table = embeddings.shape[1], model.similarity(embeddings, embeddings)
'''),
    Snippet("another measure", "name distances pairwise", '''
from sentence_transformers import SentenceTransformer, SimilarityFunction

model = SentenceTransformer("all-MiniLM-L6-v2", similarity_fn_name=SimilarityFunction.EUCLIDEAN)
a = model.encode(["a cat", "a dog"])
b = model.encode(["a kitten", "the tide"])
name, distances, pairwise = str(model.similarity_fn_name), model.similarity(a, b), model.similarity_pairwise(a, b)
'''),
    Snippet("states of tokens", "tokens single", '''
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("all-MiniLM-L6-v2")
tokens = model.encode(["a longer text of words", "short"], output_value="token_embeddings")
single = model.encode("alone", convert_to_tensor=True)
'''),
    Snippet("what a model says of itself", "numbers ids", '''
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("paraphrase-MiniLM-L6-v2", device="cpu")
numbers = (model.get_embedding_dimension(), model.get_max_seq_length(), str(model.device))
ids = model.tokenizer("Count these tokens")["input_ids"]
'''),
    # ---- notebooks: modules of your own, training by hand, decoding by hand
    Snippet("a classifier of your own", "losses names weights logits", '''
import io
import torch
from torch import nn
from transformers import BertModel, BertTokenizer

class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased", return_dict=False)
        self.out = nn.Linear(self.bert.config.hidden_size, 3)
    def forward(self, input_ids, attention_mask):
        return self.out(self.bert(input_ids=input_ids, attention_mask=attention_mask)[1])

torch.manual_seed(1)
model = Classifier().eval()
enc = BertTokenizer.from_pretrained("bert-base-uncased")(["a film", "not a good one"], padding="max_length", max_length=8, return_tensors="pt")
decayed = [p for n, p in model.named_parameters() if not any(part in n for part in ("bias", "LayerNorm.weight"))]
others = [p for n, p in model.named_parameters() if any(part in n for part in ("bias", "LayerNorm.weight"))]
optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3)
losses = []
for _ in range(3):
    loss = nn.functional.cross_entropy(model(enc["input_ids"], enc["attention_mask"]), torch.tensor([0, 2]))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
names = sorted(n for n, _ in model.named_parameters())
file = io.BytesIO()
torch.save(model.state_dict(), file)
model = Classifier().eval()
model.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
weights = dict(sorted(model.state_dict().items()))
logits = model(enc["input_ids"], enc["attention_mask"])
'''),
    Snippet("training by hand", "losses weights", '''
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
model = AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
rows = [("good movie", 1), ("a bad, bad film which I hated", 0), ("fine", 1), ("not fine at all", 0)]
data = [dict(tokenizer(text, truncation=True), labels=label) for text, label in rows]
loader = DataLoader(data, batch_size=2, collate_fn=lambda batch: tokenizer.pad(batch, return_tensors="pt"))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
losses = []
for batch in loader:
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
weights = dict(sorted(model.state_dict().items()))
'''),
    Snippet("a head trained alone", "trained grads", '''
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

model = BertForSequenceClassification.from_pretrained("bhadresh-savani/bert-base-uncased-emotion")
tokenizer = AutoTokenizer.from_pretrained("bhadresh-savani/bert-base-uncased-emotion")
for param in model.base_model.parameters():
    param.requires_grad = False
model(**tokenizer("frozen", return_tensors="pt"), labels=torch.tensor([2])).loss.backward()
trained = [name for name, p in model.named_parameters() if p.requires_grad]
grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
'''),
    Snippet("labels for the tokens of words", "labels ids", '''
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("distilbert-base-uncased")
words = [["@paulwalk", "It", "\'s", "the", "view"], ["Empire", "State", "Building", "=", "ESB", "."]]
tags = [[0, 0, 0, 0, 0], [7, 8, 8, 0, 7, 0]]
tokenized = tokenizer(words, truncation=True, is_split_into_words=True)
labels = []
for i, row in enumerate(tags):
    before, found = None, []
    for word in tokenized.word_ids(batch_index=i):
        found.append(-100 if word is None or word == before else row[word])
        before = word
    labels.append(found)
ids = tokenized["input_ids"]
'''),
    Snippet("entities from logits", "found", '''
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("dslim/bert-base-NER")
model = AutoModelForTokenClassification.from_pretrained("dslim/bert-base-NER")
text = "George Washington went to Washington, D.C. with Wolfgang M\u00fcller."
enc = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, return_tensors="pt")
offsets, special = enc.pop("offset_mapping")[0].tolist(), enc.pop("special_tokens_mask")[0].tolist()
with torch.inference_mode():
    probabilities = model(**enc).logits.softmax(-1)[0]
found = [(text[a:b], model.config.id2label[int(p.argmax())], p.max().item()) for (a, b), p, s in zip(offsets, probabilities, special) if not s]
'''),
    Snippet("how likely a sentence is", "loss", '''
import torch
from transformers import BertForMaskedLM, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("google-bert/bert-base-uncased")
model = BertForMaskedLM.from_pretrained("google-bert/bert-base-uncased")
ids = tokenizer.encode("London is the capital of Great Britain.", return_tensors="pt")
repeated = ids.repeat(ids.size(-1) - 2, 1)
masked = repeated.masked_fill(torch.ones(ids.size(-1) - 1).diag(1)[:-2] == 1, tokenizer.mask_token_id)
with torch.inference_mode():
    loss = model(masked, labels=repeated.masked_fill(masked != tokenizer.mask_token_id, -100)).loss.item()
'''),
    Snippet("a cross-encoder by its module", "scores", '''
from sentence_transformers.cross_encoder import CrossEncoder

scores = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2").predict([["a query", "a passage"]])
'''),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("checkpoints"))


def with_folders(text: str, folders: Mapping[str, str]) -> str:
    """Put folders where the text has names of models."""
    for name, kind in MODELS.items():
        text = re.sub(rf"""(["']){re.escape(name)}\1""", repr(folders[kind]), text)
    return text


def changed(text: str) -> str:
    """Change the import lines, and nothing else."""
    text, count = re.subn(r"(?m)^from (?:sentence_)?transformers(\.\w+)? import ", r"from nativebert.hf\1 import ", text)
    text, more = re.subn(r"(?m)^import transformers$", "import nativebert.hf as transformers", text)
    assert count + more
    return text


def run(text: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(text, "<snippet>", "exec"), space)
    return space


def same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal in type of container, shape, keys and strings; numbers within 1e-5."""
    if isinstance(theirs, (torch.Tensor, np.ndarray)) and np.ndim(theirs):
        assert type(ours) is type(theirs), where
        assert ours.shape == theirs.shape, where
        assert str(ours.dtype) == str(theirs.dtype), where
        ours, theirs = (x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (ours, theirs))
        assert np.abs(ours - theirs).max(initial=0) <= 1e-5, where
    elif isinstance(theirs, Mapping):
        assert list(ours) == list(theirs), where
        for key, value in theirs.items():
            same(ours[key], value, f"{where}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert isinstance(ours, (list, tuple)), where
        assert len(ours) == len(theirs), where
        for n, (a, b) in enumerate(zip(ours, theirs)):
            same(a, b, f"{where}[{n}]")
    elif isinstance(theirs, (float, np.floating, torch.Tensor)):
        assert abs(float(ours) - float(theirs)) <= 1e-5, f"{where}: {ours} {theirs}"
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name.replace(" ", "_"))
def test_runs_with_another_import_line(snippet: Snippet, folders: dict[str, str]) -> None:
    text = with_folders(snippet.text, folders)
    assert text != snippet.text
    with one_thread():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = run(text)
        ours = run(changed(text))
    assert "nativebert" not in text
    for name in snippet.results.split():
        same(ours[name], theirs[name], name)


def test_the_comparison_sees_differences() -> None:
    for ours, theirs in (
        ([1.0], [1.1]),
        ({"a": 1}, {"b": 1}),
        (["x"], ["y"]),
        (np.zeros(3), np.zeros(4)),
        (torch.zeros(3), torch.ones(3)),
        ([1], [1, 2]),
        (np.zeros(2, np.float32), np.zeros(2)),
    ):
        with pytest.raises(AssertionError):
            same(ours, theirs)


QUESTIONS = """
from transformers import pipeline

qa = pipeline("question-answering", model="distilbert-base-uncased-distilled-squad")
context = "Hugging Face was founded in 2016 by three French engineers. Its office is in New York City, in Brooklyn."
one = qa(question="Where is the office?", context=context)
many = qa(question=["Where is the office?", "Who founded it?"], context=context)
best = qa({"question": "When was it founded?", "context": context}, top_k=3)
short = qa(question="Who?", context=context, max_answer_len=2, handle_impossible_answer=True, align_to_words=False, top_k=4)
"""


def by_hand(
    folder: str, question: str, context: str, longest: int = 15, words: bool = True, count: int = 1, null: bool = False
) -> Any:
    """What the pipeline of transformers 4 computes for a context that fits into one window, with the model of transformers."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForQuestionAnswering.from_pretrained(folder)
    enc = tokenizer(question, context, return_tensors="pt")
    with torch.no_grad():
        out = model(**enc)
    own = torch.tensor([place == 1 for place in enc.sequence_ids()])
    own[0] = True  # [CLS] takes part in the sums
    p, q = (x[0].masked_fill(~own, -1e4).softmax(0).double() for x in (out.start_logits, out.end_logits))
    empty = float(p[0] * q[0])
    p[0] = q[0] = 0
    table = torch.triu(p[:, None] * q[None, :]).tril(longest - 1)
    table[~own] = 0
    table[:, ~own] = 0
    order = torch.argsort(table.flatten(), descending=True)[: 2 * count + 10 if words else count].tolist()
    answers: list[dict[str, Any]] = []
    for place in order:
        i, j = divmod(place, len(p))
        if words:
            start, end = (
                enc.word_to_chars(enc.token_to_word(i), sequence_index=1)[0],
                enc.word_to_chars(enc.token_to_word(j), sequence_index=1)[1],
            )
        else:
            start, end = enc.token_to_chars(i)[0], enc.token_to_chars(j)[1]
        text = context[start:end]
        for known in answers:
            if known["answer"].lower() == text.lower():
                known["score"] += float(table[i, j])
                break
        else:
            answers.append({"score": float(table[i, j]), "start": start, "end": end, "answer": text})
    if null:
        answers.append({"score": empty, "start": 0, "end": 0, "answer": ""})
    answers = sorted(answers, key=lambda one: -one["score"])[:count]
    return answers[0] if len(answers) == 1 else answers


def test_question_answering_as_in_transformers_4(folders: dict[str, str]) -> None:
    with one_thread():
        ours, qa = run(changed(with_folders(QUESTIONS, folders))), folders["qa"]
        context = ours["context"]
        same(ours["one"], by_hand(qa, "Where is the office?", context))
        same(ours["many"], [by_hand(qa, q, context) for q in ("Where is the office?", "Who founded it?")])
        same(ours["best"], by_hand(qa, "When was it founded?", context, count=3))
        same(ours["short"], by_hand(qa, "Who?", context, longest=2, words=False, count=4, null=True))


SAVED = """
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("all-MiniLM-L6-v2")
model.max_seq_length = 12
model.save_pretrained(TARGET)
again = SentenceTransformer(TARGET)
limit, vector = again.max_seq_length, again.encode("a text that is saved")
"""


def test_what_one_side_saves_the_other_loads(folders: dict[str, str], tmp_path: Path) -> None:
    text = with_folders(SAVED, folders)
    theirs = run(text.replace("TARGET", repr(str(tmp_path / "theirs"))))
    ours = run(changed(text).replace("TARGET", repr(str(tmp_path / "ours"))))
    for name in ("limit", "vector"):
        same(ours[name], theirs[name], name)
    load = "from sentence_transformers import SentenceTransformer\nm = SentenceTransformer(FOLDER)\nlimit, vector = m.max_seq_length, m.encode('a text that is saved')"
    crossed = (
        run(load.replace("FOLDER", repr(str(tmp_path / "ours")))),
        run(changed(load).replace("FOLDER", repr(str(tmp_path / "theirs")))),
    )
    for one in crossed:
        for name in ("limit", "vector"):
            same(one[name], theirs[name], name)
