# "Using Pre-trained Transformer Models" (Mark Andrews), section by section, with nativebert. Run: Rscript 000.R
#
# Lines that begin with #> are the text's own, where they differ. It needs the R package nativebert, and a Python with nativebert (install_nativebert()).
# Models are downloaded on first use. Figures are written to the working directory.

library(nativebert)

here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))

# ---- The hfhub package: download a file from the Hub

#> config_path <- hf_hub_download("distilbert-base-uncased", filename = "config.json")
hub <- reticulate::import("huggingface_hub")
config_path <- hub$hf_hub_download("distilbert-base-uncased", filename = "config.json")
config_path
jsonlite::fromJSON(config_path)$model_type

# ---- The tok package: tokenise

#> tokenizer <- tokenizer_from_pretrained("bert-base-uncased"); encoded <- tokenizer$encode("Deep learning is powerful.")
encoded <- nb_tokenize("Deep learning is powerful.", "bert-base-uncased")[[1]]
encoded$id
encoded$token

# ---- Loading model weights natively

#> weights <- safe_load_file(weights_path); names(weights)[1:5]
weights_path <- hub$hf_hub_download("distilbert-base-uncased", filename = "model.safetensors")
weights <- nb_weights("distilbert-base-uncased")
weights$name[1:5]
table(weights$status)

# "This is the fully native path but requires writing the architecture yourself": here it is written, in base R, with no Python at all
source(file.path(here, "native.R"))
hub$hf_hub_download("distilbert-base-uncased", filename = "vocab.txt")
native <- read_bert(dirname(weights_path))
ids <- wordpiece("Deep learning is powerful.", native$vocab)
stopifnot(identical(ids, encoded$id))
native_states <- last_hidden_state(ids, native)
dim(native_states)

# ---- The reticulate bridge: pipelines

library(reticulate)

#> transformers <- import("transformers")
transformers <- import("nativebert.hf")

classifier <- transformers$pipeline("sentiment-analysis")
classifier(list("This course is excellent.", "The explanation was very confusing."))

# ---- AutoTokenizer and AutoModel

tokenizer <- transformers$AutoTokenizer$from_pretrained("distilbert-base-uncased")
model_hf <- transformers$AutoModel$from_pretrained("distilbert-base-uncased")

tokens <- tokenizer("Deep learning is powerful.", return_tensors = "pt")
torch_py <- import("torch")

with(torch_py$no_grad(), {
  #> output <- model_hf(**tokens)        which is Python, and no R
  output <- model_hf(tokens)
})

output$last_hidden_state$shape
dim(output$last_hidden_state)            # one text, tokens, width: one vector per token
states <- as.array(output$last_hidden_state)[1, , ]
stopifnot(max(abs(states - native_states)) < 1e-4)

# the same without reticulate's objects: a matrix whose rows are the tokens
states <- nb_hidden_states("Deep learning is powerful.", "distilbert-base-uncased")[[1]]
states[, 1:3]

# ---- Text classification

clf <- transformers$AutoModelForSequenceClassification$from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")

sentences <- list("The food was excellent.", "The service was slow and disappointing.")
inputs <- tokenizer(sentences, padding = TRUE, return_tensors = "pt")

with(torch_py$no_grad(), {
  #> logits <- clf(**inputs)$logits
  logits <- clf(inputs)$logits
})

predictions <- as.integer(logits$argmax(dim = 1L)) + 1L
labels <- c("NEGATIVE", "POSITIVE")
labels[predictions]

# the same in one line, with labels and probabilities in a data frame
found <- nb_classify(unlist(sentences), "distilbert-base-uncased-finetuned-sst-2-english")
found
stopifnot(identical(labels[predictions], as.character(found$label)))

# ---- Fine-tuning: the data, a data frame

praise <- c("wonderful", "moving", "brilliant", "funny", "delightful", "superb", "charming", "gripping")
blame <- c("dull", "awful", "tedious", "clumsy", "pointless", "boring", "lifeless", "silly")
films <- data.frame(
  text = paste("A", c(praise, blame), rep(c("film", "story", "comedy", "drama", "sequel"), each = 16), "indeed."),
  label = factor(rep(rep(c("POSITIVE", "NEGATIVE"), each = 8), 5), levels = c("NEGATIVE", "POSITIVE"))
)
held <- films$text %in% sample(films$text, 16)

# With the names of the Trainer API. Examples are lists with the names of the tokenizer's items, and labels that count from 0
examples <- function(data) {
  encodings <- tokenizer(as.list(data$text), padding = TRUE)
  lapply(seq_len(nrow(data)), function(n) {
    list(input_ids = encodings$input_ids[[n]], attention_mask = encodings$attention_mask[[n]], labels = as.integer(data$label[n]) - 1L)
  })
}
train_dataset <- examples(films[!held, ])
eval_dataset <- examples(films[held, ])

TrainingArguments <- transformers$TrainingArguments
Trainer <- transformers$Trainer

args <- TrainingArguments(
  output_dir                  = "./results",
  num_train_epochs            = 3L,
  per_device_train_batch_size = 16L,
  learning_rate               = 2e-5
)

trainer <- Trainer(
  model         = clf,
  args          = args,
  train_dataset = train_dataset,
  eval_dataset  = eval_dataset
)

trainer$train()
trainer$evaluate()

# The same with a data frame in and a data frame out: an evaluation after each epoch, checkpoints, the best one kept
fit <- nb_train(films[!held, ], "sentence-transformers/all-MiniLM-L6-v2", "./films", label = "label", evaluation = films[held, ],
  epochs = 6, learning_rate = 1e-4, logging_steps = 2)
fit
list.files("./films")

png("000-training.png", 700, 450)
with(subset(fit$history, !is.na(loss)), plot(step, loss, type = "b", ylim = c(0, max(loss)), main = "Loss in training"))
with(subset(fit$history, !is.na(eval_loss)), points(step, eval_loss, pch = 19, col = "firebrick"))
legend("topright", c("training", "evaluation"), pch = c(1, 19), col = c("black", "firebrick"))
invisible(dev.off())

predicted <- predict(fit, films[held, ])
table(truth = films$label[held], predicted = predicted$label)

# and in a later session, from its folder
nb_classify(c("A superb film.", "A boring film."), "./films")

cat("done\n")
