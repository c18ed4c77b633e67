#!/usr/bin/env bash
# R and the packages that nativebert's R package needs, from Debian's (or Ubuntu's) archive, where they are missing.
set -euo pipefail
needed='for (package in c("reticulate", "jsonlite", "testthat", "knitr", "rmarkdown", "data.table", "stringi")) stopifnot(requireNamespace(package, quietly = TRUE))'
if Rscript -e "$needed" > /dev/null 2>&1 && command -v pandoc > /dev/null; then
  exit 0
fi
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
command -v apt-get > /dev/null || { echo "install R with reticulate, jsonlite, testthat, knitr, rmarkdown, data.table and stringi, and pandoc" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
$as_root apt-get install -y -qq --no-install-recommends r-base-core r-cran-reticulate r-cran-jsonlite r-cran-testthat r-cran-knitr r-cran-rmarkdown \
  r-cran-data.table r-cran-stringi pandoc > /dev/null
Rscript -e "$needed"
