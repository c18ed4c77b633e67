# "How can BERT be implemented in R?", example by example, with nativebert. Run: Rscript 004.R
#
# Lines that begin with #> are the text's own, where they differ. It needs the R package nativebert, and a Python with nativebert (install_nativebert()).
# Models are downloaded on first use. Figures are written to the working directory.

library(nativebert)
library(reticulate)

# ---- Example 1: sentence embeddings, by Python and reticulate

# The Python code of the text, with its import line changed
py_run_string('
#> from transformers import BertTokenizer, BertModel
from nativebert.hf import BertTokenizer, BertModel
import torch
import numpy as np

tokenizer = BertTokenizer.from_pretrained("bert-base-uncased")
model = BertModel.from_pretrained("bert-base-uncased")

sentences = ["This is a positive sentence.", "This is a negative sentence."]

encoded_input = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")

with torch.no_grad():
    model_output = model(**encoded_input)
    embeddings = model_output.last_hidden_state.mean(dim=1).numpy()

np.save("bert_embeddings.npy", embeddings)
')

#> embeddings <- py$load("bert_embeddings.npy")      there is no such function: py holds the variables of Python's __main__
embeddings <- nb_read_embeddings("bert_embeddings.npy")
dim(embeddings)

# The same in R, without a file, and with the mean over the real tokens only (the text's also counts padding, if texts are of unequal length)
vectors <- nb_embed(c("This is a positive sentence.", "This is a negative sentence."), "bert-base-uncased", pooling = "mean", normalize = FALSE)
stopifnot(max(abs(vectors - embeddings)) < 1e-4)

# ---- ... and the further analysis: clustering, dimension reduction, a plot

sentences <- c(
  "The ferry to the island leaves at half past nine.", "The last boat from the island sails at six.", "There is no ferry on Sundays in winter.",
  "Interest rates were raised by a quarter of a point.", "The central bank left its rates unchanged.", "Savers gain where rates go up.",
  "A cat is asleep on the warm bonnet of the car.", "A kitten naps on top of a parked car.", "The dog has curled up in front of the stove."
)
vectors <- nb_embed(sentences)

set.seed(1)
cluster <- kmeans(vectors, 3, nstart = 10)$cluster
split(sentences, cluster)
tree <- hclust(dist(vectors))
points <- prcomp(vectors)$x[, 1:2]

png("004-map.png", 900, 600)
plot(points, col = cluster + 1, pch = 19, main = "Sentences by meaning", xlim = range(points[, 1]) * 1.6)
text(points, labels = substr(sentences, 1, 30), pos = 3, cex = 0.8)
invisible(dev.off())
png("004-tree.png", 900, 500)
plot(tree, labels = substr(sentences, 1, 40), main = "Sentences by meaning", xlab = "", sub = "")
invisible(dev.off())

saveRDS(list(text = sentences, embeddings = vectors), "embeddings.rds")
stopifnot(identical(nb_read_embeddings("embeddings.rds")[, ], vectors))

# ---- Example 2: fine-tuning for sentiment analysis. Keras models of transformers (TFBert...) are gone since its version 5

train <- data.frame(
  sentence = c(
    "This is a positive sentence.", "This is a negative sentence.", "What a lovely day.", "What a horrible day.", "I am so glad.", "I am so sad.",
    "The best meal in years.", "The worst meal in years.", "She smiled with joy.", "He wept with grief."
  ),
  label = factor(rep(c("positive", "negative"), 5))
)

#> model.compile(...); model.fit(...); model.save("fine_tuned_bert.h5")
fit <- nb_train(train, "sentence-transformers/all-MiniLM-L6-v2", "fine_tuned_bert", text = "sentence", label = "label", validation_split = 0,
  epochs = 8, batch_size = 5, learning_rate = 1e-4, seed = 1)
fit

#> model <- py$load_model("fine_tuned_bert.h5")      there is no such function, and no need for one: a model is a folder, with its tokenizer
new_sentences <- c("This is another positive sentence.", "This is a rather negative sentence.")
predicted <- nb_predict("fine_tuned_bert", new_sentences)
cbind(new_sentences, predicted)

png("004-predictions.png", 700, 400)
barplot(t(as.matrix(predicted[c("p_negative", "p_positive")])), names.arg = new_sentences, col = c("firebrick", "steelblue"), cex.names = 0.8,
  legend.text = c("negative", "positive"), main = "Probabilities")
invisible(dev.off())

# ---- Example 3: named entities

#> nlp = spacy.load("en_core_web_trf"); doc = nlp(text); json.dump([(ent.text, ent.label_) for ent in doc.ents], f)
text <- "Apple is looking at buying U.K. startup for $1 billion"
entities <- nb_tag(text)
entities
stopifnot(identical(substr(rep(text, nrow(entities)), entities$start, entities$end), entities$text))

jsonlite::write_json(entities[c("text", "label")], "ner_results.json")
ner_results <- jsonlite::fromJSON("ner_results.json")
ner_results
stopifnot(identical(ner_results$label, entities$label))

# ---- Files in place of reticulate: what the command line writes, base R reads

writeLines(sentences, "sentences.txt")
python <- py_config()$python
status <- system2(python, c("-m", "nativebert", "embed", "sentences.txt", "-o", "vectors.rds", "--quiet"), env = "LD_LIBRARY_PATH=")  # R's own path is not for Python
stopifnot(status == 0, identical(unname(readRDS("vectors.rds")$embeddings), vectors))

cat("done\n")
