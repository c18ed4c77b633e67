# What a user passes as texts, and what becomes of missing ones.

# A character vector in UTF-8, with NA. `name` is the argument's, for errors.
as_texts <- function(x, name = "text") {
  if (is.data.frame(x)) {
    columns <- names(x)[vapply(x, function(column) is.character(column) || is.factor(column), NA)]
    fail("BadInput", sprintf("%s is a data frame: pass one of its columns, such as data$%s", name, if (length(columns)) columns[1] else "text"))
  }
  if (is.factor(x)) x <- as.character(x)
  if (is.list(x) && length(x) && all(vapply(x, function(one) is.character(one) && length(one) == 1L, NA))) x <- unlist(x)
  if (is.logical(x) && length(x) && all(is.na(x))) x <- as.character(x)
  if (!is.character(x)) {
    fail("BadInput", sprintf("%s must be a character vector, not %s: as.character() makes one", name, if (is.null(x)) "NULL" else class(x)[1]))
  }
  x <- as.vector(x)
  unmarked <- Encoding(x) == "unknown" & !is.na(x)
  # Bytes that are UTF-8 are that, whatever the locale; in the C locale enc2utf8() would make "<c3><a9>" of them
  if (any(unmarked) && !l10n_info()[["Latin-1"]]) Encoding(x[unmarked & validUTF8(x)]) <- "UTF-8"
  bad <- which(Encoding(x) == "bytes" | (!validUTF8(x) & Encoding(x) != "latin1" & !(unmarked & l10n_info()[["Latin-1"]])))
  if (length(bad)) {
    fail("BadInput", sprintf(
      "%s[%d] is not valid UTF-8: if it is Latin-1, say iconv(%s, \"latin1\", \"UTF-8\"), or read its file with encoding = \"latin1\"", name, bad[1], name
    ))
  }
  enc2utf8(x)
}

# Texts that belong together, of one length; a single one is used for all.
as_long_as_each_other <- function(texts) {
  longest <- max(lengths(texts))
  if (any(lengths(texts) == 0L)) longest <- 0L
  for (name in names(texts)) {
    if (length(texts[[name]]) == 1L) texts[[name]] <- rep(texts[[name]], longest)
    if (length(texts[[name]]) != longest) {
      fail("BadInput", sprintf("%s must be of equal length, or single strings, not of length %s", paste(names(texts), collapse = " and "), paste(lengths(texts), collapse = " and ")))
    }
  }
  texts
}

# A task for texts, in parts: between them there is a progress bar, and an interrupt is noticed. What a text gives does not depend on what it is computed with, so
# neither do the bits on the parts.
#
# texts: character vectors of one length, by the names that Python has for them. Returns the results of the parts, and which texts are there.
on_texts <- function(task, texts, ..., progress = FALSE, size = 2000L) {
  missing <- Reduce(`|`, lapply(texts, is.na))
  if (any(missing)) warn("MissingText", sprintf("%d of %d texts are missing (NA), and so are their results", sum(missing), length(missing)))
  there <- which(!missing)
  parts <- split(there, (seq_along(there) - 1L) %/% size)
  if (!length(parts)) parts <- list(integer(0))
  bar <- if (isTRUE(progress) && length(parts) > 1L) utils::txtProgressBar(max = length(there), style = 3)
  if (!is.null(bar)) on.exit(close(bar))
  done <- 0L
  results <- lapply(parts, function(rows) {
    about <- if (length(parts) > 1L) sprintf("texts %d to %d: ", rows[1], rows[length(rows)]) else ""
    result <- do.call(ask, c(list(task), lapply(texts, `[`, rows), list(...), list(numbers = rows, .about = about)))
    done <<- done + length(rows)
    if (!is.null(bar)) utils::setTxtProgressBar(bar, done)
    result
  })
  list(results = unname(results), there = there, count = length(missing))
}

# The results of all parts as one
joined <- function(found) {
  parts <- found$results
  if (length(parts) == 1L) return(parts[[1]])
  do.call(if (is.matrix(parts[[1]]) || is.data.frame(parts[[1]])) rbind else c, parts)
}

# The same with a row (or an item of a list) for each text, missing ones included
in_place <- function(found) {
  all <- joined(found)
  if (length(found$there) == found$count) return(all)
  places <- match(seq_len(found$count), found$there)
  if (is.matrix(all)) {
    out <- matrix(NA_real_, found$count, ncol(all), dimnames = if (!is.null(colnames(all))) list(NULL, colnames(all)))
    out[found$there, ] <- all
    return(out)
  }
  if (is.data.frame(all)) {
    all <- all[places, , drop = FALSE]
    row.names(all) <- NULL
    return(all)
  }
  if (is.list(all)) {
    out <- vector("list", found$count)
    out[found$there] <- all
    return(out)
  }
  all[places]
}
