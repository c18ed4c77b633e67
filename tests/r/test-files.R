# The routes without reticulate: the command line writes, base R reads. Run by tests/r/run.sh.
library(testthat)

python <- reticulate::py_config()$python
folder <- tempfile()
dir.create(folder)

nativebert <- function(...) {
  expect_identical(system2(python, c("-m", "nativebert", ..., "--quiet"), env = "LD_LIBRARY_PATH="), 0L)
}
path <- function(name) file.path(folder, name)

texts <- c("plain", "caf\u00e9; \"quoted\", and more", "\u4e2d\u6587 \U1F600", "NA", "two\nlines", " spaces ")
data <- data.frame(id = 1:6, text = texts)
expected <- nativebert::nb_embed(texts)

test_that("write.csv and write.csv2 are understood", {
  write.csv(data, path("t.csv"), fileEncoding = "UTF-8")
  write.csv2(data, path("t2.csv"), row.names = FALSE, fileEncoding = "UTF-8")
  nativebert("embed", path("t.csv"), "--column", "text", "-o", path("v.rds"))
  nativebert("embed", path("t2.csv"), "--column", "text", "--delimiter", shQuote(";"), "-o", path("v2.rds"))
  for (name in c("v.rds", "v2.rds")) {
    v <- readRDS(path(name))
    expect_identical(v$embeddings, expected)
    expect_identical(v$text, texts)
  }
})

test_that("NA of write.csv is not text", {
  data$text[2] <- NA
  write.csv(data, path("na.csv"), fileEncoding = "UTF-8")
  nativebert("embed", path("na.csv"), "--column", "text", "--na", "NA", "-o", path("na.rds"))
  expect_identical(readRDS(path("na.rds"))$text, c("plain", "", texts[3:6]))  # the text "NA" is in quotes
})

test_that("tables", {
  writeLines(enc2utf8(c("Apple is in K\u00f6ln \U1F600.", "rain")), path("t.txt"), useBytes = TRUE)
  model <- file.path(Sys.getenv("NATIVEBERT_MODELS"), "distilbert-base-uncased-finetuned-sst-2-english")
  nativebert("classify", path("t.txt"), "-m", model, "-o", path("labels.RData"))
  load(path("labels.RData"))
  labels <- nativebert::nb_classify(readLines(path("t.txt"), encoding = "UTF-8"), model)
  expect_identical(results$label, as.character(labels$label))
  expect_identical(results$score, labels$score)
  model <- file.path(Sys.getenv("NATIVEBERT_MODELS"), "dslim--bert-base-NER")
  nativebert("tag", path("t.txt"), "-m", model, "-o", path("entities.rds"))
  entities <- readRDS(path("entities.rds"))
  found <- nativebert::nb_tag(readLines(path("t.txt"), encoding = "UTF-8"), model)
  expect_identical(entities$start + 1L, found$start)  # files count from 0
  expect_identical(entities$end, found$end)
})
