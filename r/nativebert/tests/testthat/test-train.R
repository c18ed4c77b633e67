skip_without_python()

reviews <- data.frame(
  review = paste(rep(c("good", "bad", "nice", "awful"), 15), "film", 1:60),
  stars = factor(rep(c("up", "down"), 30), levels = c("up", "down", "never")),
  when = as.Date("2026-01-01") + 1:60
)
output <- tempfile("fit")

test_that("a data frame in, a model out", {
  fit <- nb_train(reviews, sentiment, output, text = "review", label = "stars", epochs = 1, batch_size = 16, learning_rate = 1e-3)
  expect_s3_class(fit, "nativebert_fit")
  expect_identical(fit$labels, c("up", "down"))  # the factor's order
  expect_true(all(c("loss", "accuracy") %in% names(fit$metrics)))
  expect_type(fit$metrics, "double")
  expect_true(all(c("step", "loss") %in% names(fit$history)))
  expect_true(file.exists(file.path(output, "model.safetensors")))
  expect_true(any(grepl("^checkpoint-", list.files(output))))
  expect_output(print(fit), "labels: up, down")
  p <- predict(fit, reviews)
  expect_identical(levels(p$label), c("up", "down"))
  expect_identical(p, nb_predict(output, reviews$review))
  expect_identical(p, nb_classify(reviews$review, output))
  expect_error(predict(fit, data.frame(text = "a")), "a column review", class = "nativebert_BadInput")
  expect_error(nb_train(reviews, sentiment, output, text = "review", label = "stars"), "resume=True|another", class = "nativebert_BadInput")
})

test_that("errors name rows and columns", {
  bad <- function(message, ...) expect_error(nb_train(..., model = sentiment, output = tempfile()), message, class = "nativebert_BadInput")
  bad("data must be a data frame, not character", data = "a")
  bad("no column 'no'", data = reviews, text = "no", label = "stars")
  missing <- transform(reviews, stars = replace(stars, 3, NA))
  bad("row 3", data = missing, text = "review", label = "stars")
  bad("not an option|keyword", data = reviews, text = "review", label = "stars", no_such = 1)
})

test_that("other tasks", {
  train <- function(data, task) nb_train(data, "bert-base-uncased", tempfile(task), task = task, validation_split = 0, epochs = 1)
  words <- data.frame(n = 1:8)
  words$tokens <- rep(list(c("Anna", "lives", "in", "Oslo"), "Rain"), 4)
  words$tags <- rep(list(c("B-PER", "O", "O", "B-LOC"), "O"), 4)
  fit <- train(words, "tag")
  expect_true(all(c("O", "B-PER", "B-LOC") %in% fit$labels))
  expect_s3_class(predict(fit, "Anna lives in Oslo"), "data.frame")
  pairs <- data.frame(anchor = paste("it rains", 1:8), positive = paste("rain falls", 1:8))
  expect_identical(dim(predict(train(pairs, "embed"), c("a", "b"))), c(2L, 32L))
  questions <- data.frame(question = "Where?", context = paste("Anna lives in Oslo", 1:8), answer = "Oslo", answer_start = 14)
  found <- predict(train(questions, "answer"), questions[1:2, ])
  expect_identical(found$item, 1:2)
  ranked <- data.frame(query = "birds", document = paste(c("birds fly", "cars drive"), 1:8), label = c(1, 0))
  expect_type(predict(train(ranked, "rank"), ranked[1:3, ]), "double")
})
