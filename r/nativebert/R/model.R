#' Tokens of texts
#'
#' @param text A character vector, a factor, or a column of a data frame; see [nativebert-package].
#' @param model A folder, or a name on the Hugging Face Hub.
#' @param pair A second text for each, or a single one for all.
#' @param special_tokens Put in the special tokens, such as `[CLS]` and `[SEP]`?
#' @return A list with a data frame for each text, named as `text` is: `token`, `id`, `type` (0 for the first text, 1 for the second), `word`, and `start` and `end`, so that
#'   `substr(text, start, end)` is what the token stands for; `NA` for special tokens. A missing text has `NULL`.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_tokenize("Deep learning is powerful.")[[1]]$token
#' @export
nb_tokenize <- function(text, model = "bert-base-uncased", pair = NULL, special_tokens = TRUE) {
  texts <- list(texts = as_texts(text))
  if (!is.null(pair)) texts$pairs <- as_texts(pair, "pair")
  texts <- as_long_as_each_other(texts)
  found <- on_texts("tokenize", lapply(texts, unname), model = one_string(model, "model"), special_tokens = jsonlite::unbox(special_tokens))
  out <- in_place(found)
  if (length(out) == length(text)) names(out) <- names(text)
  out
}

#' Hidden states of texts
#'
#' The vector of each token, in the context of its text: `last_hidden_state` of other libraries, or that of another layer.
#'
#' @inheritParams nb_tokenize
#' @param layer 0 for the embeddings, 1 for the first layer, ...; `NULL` for the last.
#' @param ... Options of every task, such as `precision`, `device`, `revision`.
#' @return A list with a matrix for each text, named as `text` is: a row for each token, special tokens included, named by it. A missing text has `NULL`.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' states <- nb_hidden_states("Deep learning is powerful.", "distilbert-base-uncased")[[1]]
#' dim(states)                # tokens, width
#' colMeans(states)           # a vector for the sentence
#' @export
nb_hidden_states <- function(text, model = "bert-base-uncased", layer = NULL, ...) {
  texts <- as_texts(text)
  found <- on_texts("hidden_states", list(texts = unname(texts)),
    model = one_string(model, "model"), layer = if (!is.null(layer)) jsonlite::unbox(layer), options = options_for(...), size = 100L
  )
  stats::setNames(in_place(found), names(text))
}

#' Weights of a model
#'
#' What a model's weight file holds, and what becomes of it: the ledger.
#'
#' @inheritParams nb_tokenize
#' @return A data frame with a row for each tensor of the file and each parameter of the model: `name` in the file, `parameter` in the model, `shape`, `dtype`, `status`
#'   (`loaded`, `split`, `fused`, `tied`, `derived`, `carried`, ...) and `note`, the reason for it.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_weights("distilbert-base-uncased")$name[1:5]
#' @export
nb_weights <- function(model) ask("weights", model = one_string(model, "model"))
