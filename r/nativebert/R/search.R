#' The nearest texts
#'
#' Finds the texts, or the vectors, that are most similar to each query. All of them are compared.
#'
#' @param query,corpus Texts, or matrices with a row for each, as [nb_embed()] gives them. A missing one is left out.
#' @param top_k How many to return for each query.
#' @param model The model for texts.
#' @param measure `"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`. Of the last two the score is the negative distance.
#' @param ... Options of [nb_embed()] for texts. For a model with a prompt for queries, pass `nb_embed(query, prompt_name = "query")`.
#' @param progress Show a progress bar while texts are embedded?
#' @return A data frame with a row for each hit, best first: `query`, the number of the query; `rank`, from 1; `item`, the number in the corpus; `score`; and `text`, where the
#'   corpus is texts.
#' @examplesIf nzchar(Sys.getenv("NATIVEBERT_EXAMPLES"))
#' nb_search("a sleeping animal", c("A cat naps on the car.", "Shares fell."), top_k = 1)
#' @export
nb_search <- function(query, corpus, top_k = 10, model = "sentence-transformers/all-MiniLM-L6-v2", measure = "cosine", ..., progress = interactive()) {
  as_vectors <- function(x, name) {
    if (is.data.frame(x)) fail("BadInput", sprintf("%s is a data frame: pass a column of texts, or as.matrix() of its numbers", name))
    if (is.matrix(x) && is.numeric(x)) x else nb_embed(as_texts(x, name), model, ..., progress = progress)
  }
  complete <- function(x, name) {
    if (any(is.infinite(x))) fail("BadInput", sprintf("%s has infinite numbers: check how it was computed", name))
    which(rowSums(is.na(x)) == 0)
  }
  x <- as_vectors(query, "query")
  y <- as_vectors(corpus, "corpus")
  from <- complete(x, "query")
  among <- complete(y, "corpus")
  bytes <- function(m) writeBin(as.vector(m), raw(), size = 8L, endian = "little")
  x <- x[from, , drop = FALSE]
  y <- y[among, , drop = FALSE]
  hits <- ask("search", queries = dim(x), corpus = dim(y), options = options_for(top_k = top_k, measure = measure), .matrices = list(bytes(x + 0), bytes(y + 0)))
  hits$query <- from[hits$query]
  hits$item <- among[hits$item]
  if (!is.matrix(corpus)) hits$text <- as_texts(corpus, "corpus")[hits$item]
  hits
}
