skip_without_python()

test_that("a matrix with a row for each text, with the same bits as in Python", {
  texts <- c(a = "Deep learning is powerful.", b = "caf\u00e9 \u4e2d\u6587 \U1F600", c = "", d = "l'\u00e9t\u00e9 \"x\" \\ \t\n \u2028")
  m <- nb_embed(texts)
  expect_type(m, "double")
  expect_identical(dim(m), c(4L, 384L))
  expect_identical(rownames(m), names(texts))
  check <- reticulate::py_run_string("
def same(data, texts):
    import hashlib, nativebert
    vectors = nativebert.Embedder('sentence-transformers/all-MiniLM-L6-v2')(texts)
    return hashlib.sha256(bytes(data)).hexdigest() == hashlib.sha256(vectors.tobytes()).hexdigest()
", local = TRUE)
  expect_true(check$same(writeBin(as.vector(t(m)), raw(), size = 4), unname(texts)))
})

test_that("NA, factors, one string, none", {
  expect_warning(m <- nb_embed(c("a", NA, "b")), "1 of 3 texts are missing \\(NA\\)", class = "nativebert_MissingText")
  expect_true(all(is.na(m[2, ]) & !is.nan(m[2, ])))
  expect_identical(m[c(1, 3), ], nb_embed(c("a", "b")))
  expect_identical(nb_embed(factor(c("b", "a", "b"))), nb_embed(c("b", "a", "b")))
  expect_identical(dim(nb_embed("one")), c(1L, 384L))
  expect_identical(dim(nb_embed(character(0))), c(0L, 384L))
  expect_warning(m <- nb_embed(c(x = NA)))
  expect_identical(dimnames(m), list("x", NULL))
  expect_true(all(is.na(m)))
})

test_that("10,000 strings in parts have the bits of one call", {
  embed <- function(x) nb_embed(x, "bert-base-uncased", pooling = "mean", normalize = TRUE)  # a small model
  texts <- rep(c("a", "rain", "the sea", "deep learning"), 2500)
  m <- embed(texts)
  expect_identical(dim(m), c(10000L, 32L))
  expect_identical(m, embed(texts[1:4])[rep(1:4, 2500), ])
  texts[c(1, 2001, 9999)] <- NA
  suppressWarnings(n <- embed(texts))
  expect_identical(which(is.na(n[, 1])), c(1L, 2001L, 9999L))
  expect_identical(n[-c(1, 2001, 9999), ], m[-c(1, 2001, 9999), ])
})

test_that("warnings are R's, each time, and say which texts", {
  for (i in 1:2) expect_warning(nb_embed(strrep("word ", 600)), "346 of 602 tokens", class = "nativebert_Truncated")
  long <- rep("a", 2100)
  long[2050] <- strrep("word ", 600)
  expect_warning(nb_embed(long), "^texts 2001 to 2100: 1 of 100 texts is longer")
  expect_warning(nb_embed("a b c d e f g h", max_tokens = 4), "longer than 4 tokens")
})

test_that("errors are conditions with class and message, and no traceback", {
  e <- expect_error(nb_embed("a", model = "no-such/model"), class = "nativebert_NotFound")
  expect_s3_class(e, c("nativebert_error", "error", "condition"), exact = FALSE)
  expect_no_match(conditionMessage(e), "Traceback|Error:")
  expect_error(nb_embed("a", max_token = 3), "did you mean 'max_tokens'", class = "nativebert_BadInput")
  expect_error(nb_embed("a", max_tokens = 4.5), class = "nativebert_BadInput")
  expect_error(nb_embed(strrep("word ", 600), too_long = "error"), class = "nativebert_TooLong")
  expect_error(nb_embed("a", model = c("a", "b")), "model must be one string")
  expect_error(nb_embed("a", model = 3), "model must be one string")
  expect_identical(tryCatch(nb_embed(1), nativebert_error = function(e) "caught"), "caught")
})

test_that("options change what they say", {
  expect_identical(ncol(nb_embed("a", truncate_dim = 16)), 16L)
  expect_identical(ncol(nb_embed("a", pooling = c("mean", "cls"))), 768L)
  expect_false(identical(nb_embed("a"), nb_embed("a", prompt = "query: ")))
  expect_equal(sum(nb_embed("a", normalize = TRUE)^2), 1, tolerance = 1e-6)
  expect_identical(nb_embed("a", batch_tokens = 1e5), nb_embed("a"))
})

test_that("a fork is an error that names another way", {
  skip_on_os("windows")
  result <- suppressWarnings(parallel::mclapply(1:2, function(n) nb_embed("a"), mc.cores = 2))
  for (one in result) {
    expect_s3_class(attr(one, "condition"), "nativebert_Forked")
    expect_match(one, "makeCluster")
  }
})
