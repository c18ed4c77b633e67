# Files are read without Python.
test_that("npy of every kind", {
  path <- tempfile(fileext = ".npy")
  write <- function(header, values, size) {
    text <- paste0(header, strrep(" ", 118 - nchar(header) - 1), "\n")
    file <- file(path, "wb")
    on.exit(close(file))
    writeBin(as.raw(c(0x93, utf8ToInt("NUMPY"), 1, 0, 118, 0)), file)
    writeChar(text, file, eos = NULL)
    writeBin(values, file, size = size, endian = if (grepl(">", header)) "big" else "little")
  }
  write("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", c(1, 2, 3, 4, 5, 6), 4L)
  expect_identical(nb_read_embeddings(path), matrix(c(1, 4, 2, 5, 3, 6), 2))
  write("{'descr': '>f8', 'fortran_order': True, 'shape': (2, 3), }", c(1, 2, 3, 4, 5, 6), 8L)
  expect_identical(nb_read_embeddings(path), matrix(c(1, 2, 3, 4, 5, 6), 2))
  write("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1, 3), }", 1:6, 4L)
  expect_identical(nb_read_embeddings(path), array(c(1L, 4L, 2L, 5L, 3L, 6L), c(2, 1, 3)))
  write("{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", c(200L, 1L), 1L)
  expect_identical(nb_read_embeddings(path), c(200L, 1L))
  write("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", c(1L, 0L), 4L)
  expect_error(nb_read_embeddings(path), "numbers of type <i8", class = "nativebert_BadInput")
  write("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9), }", c(1, 2), 4L)
  expect_error(nb_read_embeddings(path), "ends too early", class = "nativebert_Corrupt")
  writeLines("no", path)
  expect_error(nb_read_embeddings(path), "is no .npy file", class = "nativebert_Corrupt")
})

test_that("what is not there, or not read", {
  expect_error(nb_read_embeddings("no.npy"), "does not exist", class = "nativebert_NotFound")
  path <- tempfile(fileext = ".xyz")
  file.create(path)
  expect_error(nb_read_embeddings(path), "in no format that is read here", class = "nativebert_BadInput")
})

test_that("every format of `nativebert embed`, to the bit", {
  skip_without_python()
  folder <- tempfile()
  dir.create(folder)
  texts <- c("plain", "caf\u00e9, \"quoted\"", "\u4e2d\u6587 \U1F600", "NA", " spaces ", "l'\u00e9t\u00e9")
  input <- file.path(folder, "texts.txt")
  writeLines(enc2utf8(texts), input, useBytes = TRUE)
  expected <- nb_embed(texts)
  python <- reticulate::py_config()$python
  formats <- c("npy", "csv", "jsonl", "rds", "RData")
  code <- sprintf("import sys; from nativebert.cli import main; [main(['embed', %s, '-o', %s + f, '--quiet']) for f in sys.argv[1:]]", deparse(input), deparse(file.path(folder, "v.")))
  expect_identical(system2(python, c("-c", shQuote(code), formats), env = c("LD_LIBRARY_PATH=", paste0("PYTHONPATH=", Sys.getenv("PYTHONPATH")))), 0L)
  for (format in formats) {
    m <- nb_read_embeddings(file.path(folder, paste0("v.", format)))
    text <- attr(m, "text")
    attr(m, "text") <- NULL
    expect_identical(m, expected, info = format)
    if (format != "npy") expect_identical(enc2utf8(text), texts, info = format)
  }
})
