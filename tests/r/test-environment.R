# Which Python is used, and what is said where there is none. Run by tests/r/run.sh.
library(testthat)

in_another_r <- function(code, ...) {
  suppressWarnings(system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), stdout = TRUE, stderr = FALSE, env = c(...)))
}
told <- "library(nativebert); cat(tryCatch(nb_embed('a'), nativebert_NoPython = function(e) conditionMessage(e)))"

test_that("no Python, or one without nativebert", {
  expect_match(in_another_r(told, "RETICULATE_PYTHON=/nowhere/python"), "cannot be loaded \\(.*does not exist\\): run install_nativebert\\(\\)")
  skip_if_not(file.exists("/usr/bin/python3"))
  expect_match(in_another_r(told, "RETICULATE_PYTHON=/usr/bin/python3", "PYTHONPATH="), "cannot be loaded from .*python3 \\(.*nativebert.*RETICULATE_PYTHON")
})

test_that("an installation that fails is an error", {
  expect_error(suppressMessages(nativebert::install_nativebert(tempfile(), python = "/bin/false")), "python3-venv", class = "nativebert_Install")
})
