library(testthat)
library(nativebert)

test_check("nativebert")
