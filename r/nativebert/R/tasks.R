#' Vectors of texts
#'
#' Computes an embedding of each text with a sentence-transformers model, or any BERT-family encoder. Pooling, normalisation, prompts and the limit of tokens are
#' read from the model's files.
#'
#' @param text A character vector, a factor, or a column of a data frame; see [nativebert-package].
#' @param model A folder, or a name on the Hugging Face Hub.
#' @param ... Options of Python's `Embedder` and of its calls: `pooling = "mean"`, `normalize = TRUE`, `truncate_dim = 128`, `prompt = "query: "`,
#'   `max_tokens = 128`, `precision = "int8"`, ...
#' @param progress Show a progress bar? There is one for more than 2,000 texts.
#' @return A matrix with a row for each text, named as `text` is, with the same bits as in Python. A missing text has a row of `NA`.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' vectors <- nb_embed(c("A cat sleeps on the car.", "A kitten naps on a parked car.", "Shares fell."))
#' tcrossprod(vectors)               # cosines: the vectors are of unit length
#' kmeans(vectors, 2)$cluster
#' @export
nb_embed <- function(text, model = "sentence-transformers/all-MiniLM-L6-v2", ..., progress = interactive()) {
  texts <- as_texts(text)
  found <- on_texts("embed", list(texts = unname(texts)), model = one_string(model, "model"), options = options_for(...), progress = progress)
  out <- in_place(found)
  if (!is.null(names(text))) rownames(out) <- names(text)
  out
}

#' Labels of texts
#'
#' Classifies texts, or pairs of texts, with a model that was trained for it.
#'
#' @inheritParams nb_embed
#' @param pair A second text for each, or a single one for all; for models that read two.
#' @param ... Options of Python's `Classifier` and of its calls: `problem = "multi"` (labels that do not exclude each other), `"regression"` (the model's
#'   outputs), `max_tokens = 128`, `too_long = "window"`, ...
#' @return A data frame with a row for each text: `label`, a factor with the model's labels; `score`, its probability; and the probability of each label, in columns
#'   `p_<label>`. Of a regression, a column for each output. A missing text has a row of `NA`.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_classify(c("The food was excellent.", "The service was slow."))
#' @export
nb_classify <- function(text, model = "distilbert-base-uncased-finetuned-sst-2-english", pair = NULL, ..., progress = interactive()) {
  texts <- list(texts = as_texts(text))
  if (!is.null(pair)) texts$pairs <- as_texts(pair, "pair")
  texts <- lapply(as_long_as_each_other(texts), unname)
  in_place(on_texts("classify", texts, model = one_string(model, "model"), options = options_for(...), progress = progress))
}

#' Entities in texts
#'
#' Finds names of persons, places and so on, with a model for token classification.
#'
#' @inheritParams nb_embed
#' @param ... Options of Python's `Tagger` and of its calls: `aggregation = "first"`, `ignore = c("O", "MISC")`, ...
#' @return A data frame with a row for each entity: `item`, the number of its text; `text`, `label`, `score`; and `start` and `end`, so that
#'   `substr(text[item], start, end)` is the entity. A missing text has none.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_tag("Apple is looking at buying U.K. startup for $1 billion")
#' @export
nb_tag <- function(text, model = "dslim/bert-base-NER", ..., progress = interactive()) {
  texts <- list(texts = unname(as_texts(text)))
  joined(on_texts("tag", texts, model = one_string(model, "model"), options = options_for(...), progress = progress))
}

#' Answers to questions
#'
#' Finds the answer to each question in its context.
#'
#' @inheritParams nb_embed
#' @param question,context Texts of equal length, or a single one for all of the others.
#' @param top_k How many answers to give.
#' @param ... Options of Python's `Answerer` and of its calls: `no_answer = TRUE`, `max_answer_tokens = 30`, ...
#' @return A data frame with a row for each answer: `item`, the number of the question; `rank`, from 1; `answer`, `score`; and `start` and `end`, so that
#'   `substr(context[item], start, end)` is the answer. A missing question or context has one row of `NA`.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_answer("When does the ferry leave?", "The ferry leaves at half past nine.")
#' @export
nb_answer <- function(question, context, model = "distilbert-base-cased-distilled-squad", top_k = 1, ..., progress = interactive()) {
  texts <- as_long_as_each_other(list(question = as_texts(question, "question"), context = as_texts(context, "context")))
  texts <- list(questions = unname(texts$question), contexts = unname(texts$context))
  found <- on_texts("answer", texts, model = one_string(model, "model"), options = options_for(top_k = top_k, ...), progress = progress)
  out <- joined(found)
  missing <- setdiff(seq_len(found$count), found$there)
  if (length(missing)) {
    out <- rbind(out, data.frame(item = missing, rank = 1L, answer = NA_character_, score = NA_real_, start = NA_integer_, end = NA_integer_))
    out <- out[order(out$item, out$rank), ]
    row.names(out) <- NULL
  }
  out
}

#' Words for masks
#'
#' Fills each mask token of texts (`[MASK]`, or `<mask>` of RoBERTa's) with likely tokens.
#'
#' @inheritParams nb_embed
#' @param top_k How many candidates to give for a mask.
#' @param targets Consider only these words.
#' @param ... Options of Python's `MaskFiller` and of its calls.
#' @return A data frame with a row for each candidate: `item`, the number of its text; `mask`, the number of the mask in it; `rank`, from 1; `token`, `id`, `score`; and
#'   `text`, with this mask filled. A missing text has none.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_fill("The capital of France is [MASK].", top_k = 3)
#' @export
nb_fill <- function(text, model = "bert-base-uncased", top_k = 5, targets = NULL, ..., progress = interactive()) {
  given <- options_for(top_k = top_k, ...)
  if (!is.null(targets)) given$targets <- as_texts(targets, "targets")
  joined(on_texts("fill", list(texts = unname(as_texts(text))), model = one_string(model, "model"), options = given, progress = progress))
}

#' Scores of pairs
#'
#' Scores how well each document fits its query, with a cross-encoder, which reads both together.
#'
#' @inheritParams nb_embed
#' @param query,document Texts of equal length, or a single one for all of the others.
#' @param ... Options of Python's `Ranker` and of its calls.
#' @return Scores, a number for each pair; a matrix for a model with several outputs. `order(scores, decreasing = TRUE)` ranks the documents.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_rank("how do birds find their way?", c("Birds use the stars.", "The car is red."))
#' @export
nb_rank <- function(query, document, model = "cross-encoder/ms-marco-MiniLM-L6-v2", ..., progress = interactive()) {
  texts <- as_long_as_each_other(list(query = as_texts(query, "query"), document = as_texts(document, "document")))
  texts <- list(queries = unname(texts$query), documents = unname(texts$document))
  in_place(on_texts("rank", texts, model = one_string(model, "model"), options = options_for(...), progress = progress))
}

#' Labels of your own
#'
#' Classifies texts with labels that no model was trained for, by a model of natural language inference.
#'
#' @inheritParams nb_embed
#' @param labels The labels, two or more; one, with `multi_label = TRUE`.
#' @param multi_label May several of them, or none, be right? Else exactly one is.
#' @param hypothesis The sentence put to the model, with `{}` in the place of the label.
#' @param ... Options of Python's `ZeroShot` and of its calls.
#' @return As [nb_classify()]: `label`, a factor, `score`, and `p_<label>` for each label.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_zeroshot("My phone stopped charging.", c("phone", "weather", "law"))
#' @export
nb_zeroshot <- function(text, labels, model = "cross-encoder/nli-MiniLM2-L6-H768", multi_label = FALSE, hypothesis = "This example is {}.", ...,
                        progress = interactive()) {
  given <- options_for(multi_label = multi_label, hypothesis = hypothesis, ...)
  texts <- list(texts = unname(as_texts(text)))
  labels <- unname(as_texts(labels, "labels"))
  in_place(on_texts("zeroshot", texts, labels = labels, model = one_string(model, "model"), options = given, progress = progress))
}
