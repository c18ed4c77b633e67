# Renders the vignette to docs/r-vignette.md, with its figures: Rscript tests/r/render.R, in the repository, with the R package and a Python with nativebert.
root <- normalizePath(".")
stopifnot(file.exists("r/nativebert/vignettes/nativebert.Rmd"))
setwd("docs")
knitr::opts_chunk$set(fig.path = "r-vignette/", dpi = 72)
lines <- readLines(file.path(root, "r/nativebert/vignettes/nativebert.Rmd"))
body <- lines[-seq_len(which(lines == "---")[2])]  # without the header, which is for html
page <- tempfile(fileext = ".Rmd")
writeLines(c("# Text in R with BERT models", "", "Rendered from [the package's vignette](../r/nativebert/vignettes/nativebert.Rmd) by `Rscript tests/r/render.R`.", body), page)
knitr::knit(page, "r-vignette.md", quiet = TRUE)
# Figures as Markdown, whose paths the documentation's site adapts
rendered <- readLines("r-vignette.md", encoding = "UTF-8")
writeLines(gsub('<img src="([^"]*)" alt="([^"]*)"[^>]*>', "![\\2](\\1)", rendered), "r-vignette.md", useBytes = TRUE)
