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
  bad("no option|keyword", data = reviews, text = "review", label = "stars", no_such = 1)
})
