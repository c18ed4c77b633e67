# The blocks of R in docs/r.md run, in their order, as one script. Run by tests/r/run.sh.
library(testthat)

test_that("docs/r.md", {
  lines <- readLines(file.path(Sys.getenv("NATIVEBERT_SOURCES"), "docs", "r.md"), encoding = "UTF-8")
  fence <- grepl("^```", lines)
  inside <- cumsum(fence) %% 2 == 1 & !fence
  language <- sub("^```", "", lines[fence])[cumsum(fence)[inside]]
  folder <- tempfile()
  dir.create(folder)
  script <- file.path(folder, "page.R")
  writeLines(lines[inside][language == "r"], script)
  before <- setwd(folder)
  on.exit(setwd(before))
  said <- suppressWarnings(system2(file.path(R.home("bin"), "Rscript"), script, stdout = TRUE, stderr = TRUE))
  expect_null(attr(said, "status"), info = paste(tail(said, 20), collapse = "\n"))
  expect_true(file.exists(file.path(folder, "vectors.rds")))
})
