#' Vectors from a file
#'
#' Reads what `nativebert embed` wrote, whatever the format, without Python. The numbers are those of the file, as float32, to the bit.
#'
#' @param path A file `.npy`, `.rds`, `.RData`, `.csv` or `.jsonl`; `.parquet` with the package 'nanoparquet' or 'arrow'.
#' @return A matrix with a row for each text. The texts are its attribute `"text"`, where the file has them.
#' @examples
#' path <- tempfile(fileext = ".rds")
#' saveRDS(list(text = c("a", "b"), embeddings = matrix(1:6 / 8, 2)), path)
#' nb_read_embeddings(path)
#' @export
nb_read_embeddings <- function(path) {
  if (!is.character(path) || length(path) != 1L || is.na(path)) fail("BadInput", "path must be the name of one file")
  if (!file.exists(path)) fail("NotFound", sprintf("file %s does not exist", path))
  switch(tolower(sub(".*\\.", "", basename(path))),
    npy = read_npy(path),
    rds = from_list(readRDS(path), path),
    rdata = , rda = {
      loaded <- new.env(parent = emptyenv())
      load(path, loaded)
      from_list(as.list(loaded), path)
    },
    csv = from_columns(read_csv(path), path),
    jsonl = {
      lines <- jsonlite::stream_in(file(path), verbose = FALSE)
      with_text(as_float(do.call(rbind, lines$embedding)), lines$text)
    },
    parquet = from_columns(read_parquet(path), path),
    fail("BadInput", sprintf("%s is in no format that is read here: .npy, .rds, .RData, .csv, .jsonl or .parquet", path))
  )
}

with_text <- function(vectors, text) structure(vectors, text = if (is.character(text)) text)

from_list <- function(x, path) {
  if (is.matrix(x) && is.numeric(x)) return(x)
  if (!is.list(x) || !is.matrix(x$embeddings)) fail("BadInput", sprintf("%s has no matrix called embeddings", path))
  with_text(x$embeddings, x$text)
}

from_columns <- function(data, path) {
  numbers <- vapply(data, is.numeric, NA)
  if (!any(numbers)) fail("BadInput", sprintf("%s has no columns of numbers", path))
  with_text(as_float(unname(as.matrix(data[numbers]))), data[["text"]])
}

# Decimals have nine digits: the float32 that they came from is the nearest one
as_float <- function(x) {
  x[] <- readBin(writeBin(as.vector(x), raw(), size = 4L), "numeric", length(x), size = 4L)
  x
}

read_csv <- function(path) {
  if (!requireNamespace("data.table", quietly = TRUE)) {
    return(utils::read.csv(path, encoding = "UTF-8", na.strings = character(0), check.names = FALSE))
  }
  data <- as.data.frame(data.table::fread(path, encoding = "UTF-8", na.strings = NULL, strip.white = FALSE, header = TRUE))  # ten times as fast
  if (is.character(data$text)) data$text <- gsub('""', '"', data$text, fixed = TRUE)  # which it leaves as they are
  data
}

read_parquet <- function(path) {
  for (package in c("nanoparquet", "arrow")) {
    if (requireNamespace(package, quietly = TRUE)) return(as.data.frame(getExportedValue(package, "read_parquet")(path)))
  }
  fail("NoPackage", sprintf("reading %s takes the package nanoparquet or arrow; or write .rds, which R reads by itself", path))
}

# numpy's format in base R: floats of 4 and 8 bytes, integers of 1, 2 and 4, either byte order, any number of dimensions
read_npy <- function(path) {
  file <- file(path, "rb")
  on.exit(close(file))
  magic <- readBin(file, "raw", 8L)
  if (!identical(magic[1:6], as.raw(c(0x93, utf8ToInt("NUMPY"))))) fail("Corrupt", sprintf("%s is no .npy file", path))
  size <- readBin(file, "integer", 1L, if (magic[7] == 1L) 2L else 4L, signed = magic[7] != 1L, endian = "little")
  header <- rawToChar(readBin(file, "raw", size))
  field <- function(pattern) regmatches(header, regexec(pattern, header))[[1]][2]
  type <- field("'descr': *'([^']*)'")
  shape <- as.integer(regmatches(s <- field("'shape': *\\(([^)]*)\\)"), gregexpr("[0-9]+", s))[[1]])
  if (!grepl("^([<>]f[48]|[<>|][iu][12]|[<>]i4)$", type)) {
    fail("BadInput", sprintf("%s has numbers of type %s, which R does not read: astype(\"float64\") in Python makes one that it does", path, type))
  }
  x <- readBin(file, if (substr(type, 2, 2) == "f") "numeric" else "integer", prod(shape), as.integer(substr(type, 3, 3)),
    signed = substr(type, 2, 2) != "u", endian = if (substr(type, 1, 1) == ">") "big" else "little"
  )
  if (length(x) != prod(shape)) fail("Corrupt", sprintf("%s ends too early", path))
  if (length(shape) < 2L) return(x)
  if (grepl("'fortran_order': True", header)) return(array(x, shape))
  if (length(shape) == 2L) matrix(x, shape[1], shape[2], byrow = TRUE) else aperm(array(x, rev(shape)), rev(seq_along(shape)))
}
