# BERT and DistilBERT in R alone: from a safetensors file and a vocabulary to hidden states. Base R and jsonlite; no torch, no Python.
# For text beyond ASCII also stringi, since base R cannot take letters and accents apart.
#
#   source("native.R")
#   model  <- read_bert("folder")                        # config.json, model.safetensors, vocab.txt
#   ids    <- wordpiece("Deep learning is powerful.", model$vocab)
#   states <- last_hidden_state(ids, model)              # a matrix: a row for each token
#   colMeans(states)                                     # a vector for the sentence: sentence_vector() does all of it
#
# Written to be read. It shares no code with nativebert, so that each checks the other: tests/r/test-native.R. For work, use nb_embed().

# ---- The file: 8 bytes for the length of a JSON header, the header, the numbers

read_safetensors <- function(path) {
  file <- file(path, "rb")
  on.exit(close(file))
  halves <- readBin(file, "integer", 2L, 4L, endian = "little")
  header <- jsonlite::fromJSON(rawToChar(readBin(file, "raw", halves[1])))
  header$`__metadata__` <- NULL
  header <- header[vapply(header, function(tensor) tensor$dtype == "F32", NA)]      # position_ids, integers, are of no use
  lapply(header, function(tensor) {
    seek(file, 8 + halves[1] + tensor$data_offsets[1])
    x <- readBin(file, "numeric", prod(tensor$shape), 4L, endian = "little")
    # The file stores rows one after another, R columns: with its dimensions reversed a weight (out, in) becomes (in, out), as products of rows need it
    if (length(tensor$shape) == 2L) dim(x) <- rev(tensor$shape)
    x
  })
}

read_bert <- function(folder) {
  config <- jsonlite::fromJSON(file.path(folder, "config.json"))
  distil <- config$model_type == "distilbert"
  stopifnot(distil || config$model_type == "bert", (if (distil) config$activation else config$hidden_act) == "gelu")
  weights <- read_safetensors(file.path(folder, "model.safetensors"))
  names(weights) <- sub("^(bert|distilbert)\\.", "", names(weights))
  vocab <- file.path(folder, "vocab.txt")
  list(
    weights = weights, distil = distil, vocab = if (file.exists(vocab)) readLines(vocab, encoding = "UTF-8"),
    heads = if (distil) config$n_heads else config$num_attention_heads,
    layers = if (distil) config$n_layers else config$num_hidden_layers,
    eps = if (distil) 1e-12 else config$layer_norm_eps,
    names = if (distil) DISTILBERT else BERT
  )
}

# What the two families call the same parts of a layer
BERT <- c(
  layer = "encoder.layer.", q = "attention.self.query", k = "attention.self.key", v = "attention.self.value", o = "attention.output.dense",
  attention_norm = "attention.output.LayerNorm", up = "intermediate.dense", down = "output.dense", mlp_norm = "output.LayerNorm"
)
DISTILBERT <- c(
  layer = "transformer.layer.", q = "attention.q_lin", k = "attention.k_lin", v = "attention.v_lin", o = "attention.out_lin",
  attention_norm = "sa_layer_norm", up = "ffn.lin1", down = "ffn.lin2", mlp_norm = "output_layer_norm"
)

# ---- The mathematics. x is a matrix (tokens, width); a bias is added to each row

linear <- function(x, w) x %*% w$weight + rep(w$bias, each = nrow(x))
gelu <- function(x) x * pnorm(x)
softmax <- function(x) { e <- exp(x - apply(x, 1L, max)); e / rowSums(e) }
layer_norm <- function(x, w, eps) {
  x <- x - rowMeans(x)
  x / sqrt(rowMeans(x^2) + eps) * rep(w$weight, each = nrow(x)) + rep(w$bias, each = nrow(x))
}

attention <- function(q, k, v, heads) {
  width <- ncol(q) / heads
  do.call(cbind, lapply(seq_len(heads), function(head) {
    own <- (head - 1L) * width + seq_len(width)                                     # the columns of this head
    softmax(tcrossprod(q[, own, drop = FALSE], k[, own, drop = FALSE]) / sqrt(width)) %*% v[, own, drop = FALSE]
  }))
}

# Ids count from 0, types (0 for the first text of a pair, 1 for the second) as well; R counts from 1
last_hidden_state <- function(ids, model, types = rep(0L, length(ids))) {
  part <- function(name) list(weight = model$weights[[paste0(name, ".weight")]], bias = model$weights[[paste0(name, ".bias")]])
  rows <- function(table, index) t(part(paste0("embeddings.", table))$weight[, index + 1L, drop = FALSE])
  x <- rows("word_embeddings", ids)
  if (!model$distil) x <- x + rows("token_type_embeddings", types)
  x <- layer_norm(x + rows("position_embeddings", seq_along(ids) - 1L), part("embeddings.LayerNorm"), model$eps)
  for (n in seq_len(model$layers) - 1L) {
    own <- function(name) part(paste0(model$names[["layer"]], n, ".", model$names[[name]]))
    mixed <- attention(linear(x, own("q")), linear(x, own("k")), linear(x, own("v")), model$heads)
    x <- layer_norm(x + linear(mixed, own("o")), own("attention_norm"), model$eps)
    x <- layer_norm(x + linear(gelu(linear(x, own("up"))), own("down")), own("mlp_norm"), model$eps)
  }
  x
}

sentence_vector <- function(text, model) colMeans(last_hidden_state(wordpiece(text, model$vocab), model))

# ---- The tokenizer: WordPiece, of models that ignore case. Special tokens that a text spells out ("[MASK]") are text here

substitute_all <- function(text, pattern, by) gsub(paste0("(*UTF)(*UCP)", pattern), by, text, perl = TRUE)  # R says UTF only for text beyond ASCII

CJK <- "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{20000}-\\x{2CEAF}\\x{F900}-\\x{FAFF}\\x{2F800}-\\x{2FA1F}]"

split_words <- function(text) {
  text <- substitute_all(text, "[\\p{Cf}\\p{Co}\\p{Cs}\\x{FFFD}]|(?![\\t\\n\\r])\\p{Cc}", "")  # controls, but for white space
  text <- substitute_all(text, paste0("(", CJK, ")"), " \\1 ")
  if (grepl("[^ -~\t\r\n]", text)) {
    text <- substitute_all(stringi::stri_trans_nfd(text), "\\p{Mn}", "")               # accents go
    text <- paste(stringi::stri_trans_tolower(strsplit(text, "")[[1]], "root"), collapse = "")  # letter by letter: what ends a word makes no difference
  }
  text <- substitute_all(tolower(text), "([!-/:-@\\[-`{-~]|\\p{P})", " \\1 ")
  words <- strsplit(trimws(substitute_all(text, "\\s+", " ")), " ", fixed = TRUE)[[1]]
  words[nzchar(words)]
}

# vocab: the tokens; the first has the id 0
wordpiece <- function(text, vocab, longest = 100L) {
  text <- enc2utf8(text)
  if (!validUTF8(text)) stop("text is not valid UTF-8: say iconv(text, \"latin1\", \"UTF-8\") first")
  id_of <- function(tokens) match(tokens, vocab) - 1L
  pieces <- lapply(split_words(text), function(word) {
    count <- nchar(word)
    start <- 1L
    ids <- integer(0)
    while (start <= count && count <= longest) {
      ends <- count:start                                                           # the longest piece that is in the vocabulary
      found <- id_of(paste0(if (start > 1L) "##", substring(word, start, ends)))
      best <- which(!is.na(found))[1]
      if (is.na(best)) break
      ids <- c(ids, found[best])
      start <- ends[best] + 1L
    }
    if (start <= count) id_of("[UNK]") else ids
  })
  c(id_of("[CLS]"), unlist(pieces), id_of("[SEP]"))
}
