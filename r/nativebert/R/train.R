#' Fine-tune a model on a data frame
#'
#' Trains a model, evaluates it, and saves it to a folder that all functions here take as a model, and transformers in Python, too. The folder also has checkpoints, a
#' model card and `report.html`.
#'
#' @param data A data frame. For `task = "classify"` a column of texts and one of labels (a factor, strings, or whole numbers; numbers with a fraction are a
#'   regression); for `"tag"` list columns `tokens` and `tags`; for `"embed"` columns `anchor` and `positive`, or `sentence1`, `sentence2` and `score`; for `"answer"`
#'   `question`, `context`, and `answer` with `answer_start`, which counts from 0; for `"rank"` `query`, `document` and `label`.
#' @param model The model to begin with: a folder, or a name on the Hugging Face Hub.
#' @param output A folder for checkpoints and, at the end, the model.
#' @param text,label The names of the columns; `NULL` for the usual ones.
#' @param task `"classify"`, `"tag"`, `"embed"`, `"answer"` or `"rank"`.
#' @param evaluation A data frame to evaluate with; `NULL` to hold out a tenth of the data (`validation_split = 0.1`), by the hash of the text.
#' @param ... Options of Python's `nativebert.train`: `epochs = 3`, `batch_size = 16`, `learning_rate = 5e-5`, `early_stopping_patience = 2`, `max_length = 128`,
#'   `class_weights = "balanced"`, `freeze = "embed"`, `resume = TRUE` (go on from the last checkpoint in `output`), `missing = "drop"`, `seed = 1`, ...
#' @param progress Print a line for each entry of the log?
#' @return An object of class `nativebert_fit`, for [nb_predict()] and `predict()`: a list with `folder`, `task`, `metrics` (of the evaluation, named), `history` (the log, a
#'   data frame) and `labels`.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' films <- data.frame(
#'   review = c("A wonderful film.", "Never again.", "I laughed and cried.", "Dull from start to end."),
#'   verdict = factor(c("good", "bad", "good", "bad"))
#' )
#' fit <- nb_train(films, "sentence-transformers/all-MiniLM-L6-v2", tempfile("films"), text = "review", label = "verdict", validation_split = 0,
#'                 epochs = 4, learning_rate = 2e-4)
#' predict(fit, c("A wonderful evening.", "So dull."))
#' @export
nb_train <- function(data, model, output, text = NULL, label = NULL, task = c("classify", "tag", "embed", "answer", "rank"), evaluation = NULL, ...,
                     progress = interactive()) {
  task <- match.arg(task)
  given <- options_for(progress = progress, ...)
  if (!is.null(text)) given$text <- column_names(text, data, "text")
  if (!is.null(label)) given$label <- column_names(label, data, "label")
  column <- if (is.null(label)) "label" else label
  if (task == "classify" && length(column) == 1L && is.data.frame(data) && is.factor(data[[column]]) && is.null(given$labels)) {
    given$labels <- levels(droplevels(data[[column]]))  # in this order
  }
  fit <- ask("train",
    task = jsonlite::unbox(task), data = as_columns(data, "data"), model = one_string(model, "model"), output = one_string(output, "output"),
    evaluation = if (!is.null(evaluation)) as_columns(evaluation, "evaluation"), options = given
  )
  fit$metrics <- fit$metrics[1, ]
  fit$text <- text
  structure(fit, class = "nativebert_fit")
}

column_names <- function(x, data, name) {
  if (!is.character(x) || anyNA(x)) fail("BadInput", sprintf("%s must be the name of a column, such as \"%s\"", name, names(data)[1]))
  if (length(x) == 1L) jsonlite::unbox(x) else x
}

# Columns of a data frame for JSON
as_columns <- function(data, name) {
  if (!is.data.frame(data)) fail("BadInput", sprintf("%s must be a data frame, not %s", name, class(data)[1]))
  columns <- lapply(as.list(data), function(column) {
    if (is.logical(column) || inherits(column, c("Date", "POSIXt", "difftime"))) column <- as.character(column)
    if (is.character(column) || is.factor(column)) unname(as_texts(column, name)) else unname(column)
  })
  if (!length(columns)) fail("BadInput", sprintf("%s has no columns", name))
  columns
}

#' Predict with a fine-tuned model
#'
#' @param fit What [nb_train()] returned, or the folder of a model.
#' @param newdata Texts; or a data frame with the columns that the model was trained with: that of `text` (or `text`, `sentence`), `question` and `context`, or
#'   `query` and `document`.
#' @param ... Options of the task: see [nb_classify()], [nb_tag()], [nb_embed()], [nb_answer()], [nb_rank()].
#' @param object The same as `fit`.
#' @return What the function of the model's task returns: for a classifier, a data frame with a factor `label` and probabilities.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_predict("dslim/bert-base-NER", "Anna lives in Oslo.")
#' @export
nb_predict <- function(fit, newdata, ...) {
  if (!inherits(fit, "nativebert_fit")) fit <- list(folder = fit, task = ask("head_of", model = one_string(fit, "fit")))
  column <- function(name) {
    if (!is.data.frame(newdata) || is.null(newdata[[name]])) fail("BadInput", sprintf("newdata must be a data frame with a column %s", name))
    newdata[[name]]
  }
  if (fit$task == "answer") return(nb_answer(column("question"), column("context"), fit$folder, ...))
  if (fit$task == "rank") return(nb_rank(column("query"), column("document"), fit$folder, ...))
  texts <- newdata
  if (is.data.frame(newdata)) {
    usual <- if (is.null(fit$text)) intersect(c("text", "sentence", "review", "content"), names(newdata))[1] else fit$text
    if (is.na(usual)) fail("BadInput", "newdata has no column text: pass one of its columns, such as newdata$review")
    texts <- column(usual)
  }
  switch(fit$task, classify = nb_classify(texts, fit$folder, ...), tag = nb_tag(texts, fit$folder, ...), embed = nb_embed(texts, fit$folder, ...))
}

#' @rdname nb_predict
#' @importFrom stats predict
#' @export
predict.nativebert_fit <- function(object, newdata, ...) nb_predict(object, newdata, ...)

#' @export
print.nativebert_fit <- function(x, ...) {
  cat(sprintf("<nativebert_fit> %s in %s\n", x$task, x$folder))
  if (length(x$labels)) cat("labels:", paste(x$labels, collapse = ", "), "\n")
  if (length(x$metrics)) print(signif(x$metrics, 4)) else cat("not evaluated\n")
  invisible(x)
}
