# The blocks of R in docs/r.md, docs/hf.md and README.md run, each page as one script. Run by tests/r/run.sh.
library(testthat)

blocks_of <- function(page, language) {
  lines <- readLines(file.path(Sys.getenv("NATIVEBERT_SOURCES"), page), encoding = "UTF-8")
  fence <- grepl("^```", lines)
  inside <- cumsum(fence) %% 2 == 1 & !fence
  languages <- sub("^```", "", lines[fence])[cumsum(fence)[inside]]
  lines[inside][languages == language]
}

run <- function(page, folder) {
  dir.create(folder)
  script <- file.path(folder, "page.R")
  writeLines(blocks_of(page, "r"), script)
  before <- setwd(folder)
  on.exit(setwd(before))
  said <- suppressWarnings(system2(file.path(R.home("bin"), "Rscript"), script, stdout = TRUE, stderr = TRUE))
  expect_null(attr(said, "status"), info = paste(tail(said, 20), collapse = "\n"))
  said
}

test_that("docs/r.md", {
  folder <- tempfile()
  run("docs/r.md", folder)
  expect_true(file.exists(file.path(folder, "vectors.rds")))
})

test_that("docs/hf.md", run("docs/hf.md", tempfile()))

test_that("README.md, with the output that it shows", {
  said <- run("README.md", tempfile())
  shown <- blocks_of("README.md", "")
  from <- grep("eating +eats +baby", shown)
  expect_length(from, 1)
  expect_true(all(shown[from + 0:3] %in% said), info = paste(said, collapse = "\n"))
})
