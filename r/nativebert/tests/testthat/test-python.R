skip_without_python()

test_that("tensors are numbers of R", {
  torch <- reticulate::import("torch")
  t <- torch$arange(6L)$reshape(2L, 3L)
  expect_identical(dim(t), c(2L, 3L))
  expect_identical(length(t), 6L)
  expect_identical(as.matrix(t), matrix(c(0, 3, 1, 4, 2, 5), 2))
  expect_identical(as.array(t$double()), matrix(c(0, 3, 1, 4, 2, 5), 2))
  expect_identical(as.integer(t), c(0L, 3L, 1L, 4L, 2L, 5L))  # by columns, as of a matrix
  expect_identical(as.double(t$argmax(dim = 1L)), c(2, 2))
  expect_identical(as.vector(t$bool())[1:2], c(FALSE, TRUE))
  expect_identical(as.logical(t$bool())[1:2], c(FALSE, TRUE))
  expect_identical(dim(as.array(torch$zeros(2L, 3L, 4L))), 2:4)
  expect_identical(as.double(torch$tensor(0.1)), as.double(readBin(writeBin(0.1, raw(), size = 4), "double", size = 4)))
  expect_null(dim(torch$tensor(1)))
})

test_that("results are lists of R", {
  nb <- reticulate::import("nativebert")
  found <- nb$Classifier(sentiment)(list("good", "bad"))
  expect_type(found, "list")
  expect_identical(found[[1]]$label, as.character(nb_classify("good", sentiment)$label))
})

test_that("the natural lines of R", {
  transformers <- reticulate::import("nativebert.hf")
  torch_py <- reticulate::import("torch")
  tokenizer <- transformers$AutoTokenizer$from_pretrained("distilbert-base-uncased")
  clf <- transformers$AutoModelForSequenceClassification$from_pretrained(sentiment)
  inputs <- tokenizer(list("The food was excellent.", "The service was slow and disappointing."), padding = TRUE, return_tensors = "pt")
  with(torch_py$no_grad(), {
    logits <- clf(inputs)$logits
  })
  expect_identical(dim(logits), c(2L, 2L))
  predictions <- as.integer(logits$argmax(dim = 1L)) + 1L
  expect_identical(predictions, as.integer(nb_classify(c("The food was excellent.", "The service was slow and disappointing."), sentiment)$label))
  expect_equal(as.matrix(do.call(clf, inputs$data)$logits), as.matrix(logits))
  expect_lt(tokenizer$model_max_length, 2^31)
  expect_type(tokenizer$model_max_length, "integer")
})

test_that("whole doubles, paths and listings", {
  nb <- reticulate::import("nativebert")
  embed <- nb$Embedder(minilm, max_tokens = 32)
  expect_type(embed$snapshot$folder, "character")
  expect_true(dir.exists(embed$snapshot$folder))
  expect_true(all(c("Embedder", "Classifier", "load") %in% names(nb)))
  expect_false(any(c("annotations", "importlib", "Any", "TYPE_CHECKING") %in% names(nb)))
  expect_output(print(nb$load(minilm)$ledger), "embeddings.word_embeddings.weight +.*30522")
})
