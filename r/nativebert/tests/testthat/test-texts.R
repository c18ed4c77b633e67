# What is taken as text; needs no Python.
as_texts <- nativebert:::as_texts

test_that("characters, factors, lists of strings, missing texts", {
  expect_identical(as_texts(c(a = "x", b = NA)), c("x", NA))
  expect_identical(as_texts(factor(c("b", NA, "a"))), c("b", NA, "a"))
  expect_identical(as_texts(list("a", "b")), c("a", "b"))
  expect_identical(as_texts(c(NA, NA)), c(NA_character_, NA_character_))
  expect_identical(as_texts(character(0)), character(0))
  expect_identical(as_texts(I("a")), "a")
  expect_identical(as_texts(matrix(c("a", "b"), 1)), c("a", "b"))
})

test_that("what is not text is an error that says what to do", {
  bad <- function(x, message) expect_error(as_texts(x), message, class = "nativebert_BadInput")
  bad(1:3, "must be a character vector, not integer: as.character\\(\\)")
  bad(2.5, "not numeric")
  bad(NULL, "not NULL")
  bad(TRUE, "not logical")
  bad(logical(0), "not logical")
  bad(Sys.Date(), "not Date")
  bad(mean, "not function")
  bad(list("a", 1), "not list")
  bad(list("a", c("b", "c")), "not list")
  bad(data.frame(n = 1, review = "a"), "text is a data frame: pass one of its columns, such as data\\$review")
  bad(structure(list(text = "a"), class = c("tbl_df", "tbl", "data.frame")), "data\\$text")
  expect_error(as_texts(1, "question"), "^question must be", class = "nativebert_error")
})

test_that("encodings", {
  latin <- "caf\xe9"
  expect_error(as_texts(c("a", latin)), "text\\[2\\] is not valid UTF-8: .*iconv\\(text, \"latin1\", \"UTF-8\"\\)", class = "nativebert_BadInput")
  Encoding(latin) <- "latin1"
  expect_identical(as_texts(latin), "caf\u00e9")
  unmarked <- rawToChar(as.raw(c(0x63, 0xc3, 0xa9)))  # as readLines() gives it in the C locale
  expect_identical(Encoding(unmarked), "unknown")
  expect_identical(charToRaw(as_texts(unmarked)), as.raw(c(0x63, 0xc3, 0xa9)))
  expect_identical(Encoding(as_texts(unmarked)), "UTF-8")
  bytes <- "caf\xe9"
  Encoding(bytes) <- "bytes"
  expect_error(as_texts(bytes), "not valid UTF-8")
})

test_that("texts that belong together", {
  together <- nativebert:::as_long_as_each_other
  expect_identical(together(list(a = "x", b = c("y", "z"))), list(a = c("x", "x"), b = c("y", "z")))
  expect_identical(together(list(a = "x", b = character(0))), list(a = character(0), b = character(0)))
  expect_error(together(list(a = c("x", "y"), b = c("x", "y", "z"))), "a and b must be of equal length, or single strings, not of length 2 and 3", class = "nativebert_BadInput")
})

test_that("options", {
  options_for <- nativebert:::options_for
  json <- function(...) as.character(jsonlite::toJSON(options_for(...), null = "null", digits = I(17)))
  expect_identical(json(), "{}")
  expect_identical(json(max_tokens = 32, normalize = TRUE, pooling = c("mean", "cls"), prompt = NULL), "{\"max_tokens\":32,\"normalize\":true,\"pooling\":[\"mean\",\"cls\"],\"prompt\":null}")
  expect_error(options_for(32), "must have names", class = "nativebert_BadInput")
})
