# Ctrl-C in a long call is R's interrupt, and the next call works. Run by tests/r/run.sh.
library(testthat)

test_that("an interrupt between two parts", {
  skip_on_os("windows")
  folder <- tempfile()
  dir.create(folder)
  path <- function(name) file.path(folder, name)
  writeLines(c(
    "library(nativebert)",
    "x <- nb_embed('a')",
    "writeLines(as.character(Sys.getpid()), 'pid.part'); done <- file.rename('pid.part', 'pid')",
    "texts <- rep(strrep('the sea and the sky ', 5), 1e6)",
    "r <- tryCatch(nb_embed(texts), interrupt = function(e) 'interrupted')",
    "writeLines(c(r, dim(nb_embed('b'))), 'result.part'); done <- file.rename('result.part', 'result')"
  ), path("script.R"))
  before <- setwd(folder)
  on.exit(setwd(before))
  system2(file.path(R.home("bin"), "Rscript"), "script.R", wait = FALSE, stdout = FALSE, stderr = FALSE)
  wait_for <- function(name) {
    for (n in 1:600) if (file.exists(path(name))) return(readLines(path(name))) else Sys.sleep(0.1)
    stop(name, " did not come")
  }
  pid <- as.integer(wait_for("pid"))
  Sys.sleep(2)
  tools::pskill(pid, tools::SIGINT)
  expect_identical(wait_for("result"), c("interrupted", "1", "384"))
})
