# examples/r/native.R against transformers in float64 (tests/golden/native.rds), and against nativebert. Run by tests/r/run.sh.
library(testthat)

root <- normalizePath(Sys.getenv("NATIVEBERT_SOURCES", "../.."))
source(file.path(root, "examples", "r", "native.R"), local = TRUE)
golden <- readRDS(file.path(root, "tests", "golden", "native.rds"))
minilm <- reticulate::py_run_string("
import nativebert.hub
folder = str(nativebert.hub.resolve('sentence-transformers/all-MiniLM-L6-v2').folder)
")$folder
model <- read_bert(minilm)

odd <- c(
  "", " ", "\u00a0a\u00a0b", "a\u200bb", "\ufeffx", "e\u0301te\u0301", "\u0130stanbul", "STRASSE stra\u00dfe \u00c9T\u00c9", "\u4e2d\u6587abc", "\U1F600 \U1F468\u200d\U1F469", "a\tb\nc\rd",
  strrep("x", 101), strrep("x", 100), "don't", "\u201cquote\u201d \u2014 dash", "\u00bfqu\u00e9?", "a_b@c.d", "$5 \u20ac5 \u00a35", "\u0e20\u0e32\u0e29\u0e32", "\u0645\u0631\u062d\u0628\u0627",
  "\u1e69\u0323", "\u212b \u2126", "\ufb01ne \u2460", "\u2028line\u2029", "\ue000private", "\ud7a3\uac00", "1,000.5%", "\u007f\u0001ctl", "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3"
)

test_that("MiniLM, against float64", {
  for (example in golden$minilm) {
    expect_identical(wordpiece(example$text, model$vocab), example$ids)
    expect_lt(max(abs(last_hidden_state(example$ids, model) - example$hidden)), 1e-12)
  }
})

test_that("tiny models of both families, against float64", {
  for (name in c("bert", "distilbert")) {
    tiny <- read_bert(file.path(root, "tests", "golden", name))
    for (example in golden[[name]]) {
      expect_lt(max(abs(last_hidden_state(example$ids, tiny, example$types) - example$hidden)), 1e-12)
    }
  }
})

test_that("against nativebert: ids, states, vectors", {
  texts <- c(readLines(file.path(root, "examples", "sentences.txt"), encoding = "UTF-8"), odd)
  ours <- nativebert::nb_tokenize(texts, minilm)
  ids <- lapply(texts, wordpiece, model$vocab)
  expect_identical(ids, lapply(ours, function(tokens) tokens$id))
  states <- nativebert::nb_hidden_states(texts, minilm)
  for (n in seq_along(texts)) expect_lt(max(abs(last_hidden_state(ids[[n]], model) - states[[n]])), 1e-5)
  unit <- function(x) x / sqrt(sum(x^2))
  expect_lt(max(abs(unit(sentence_vector(texts[1], model)) - nativebert::nb_embed(texts[1])[1, ])), 1e-6)
})
