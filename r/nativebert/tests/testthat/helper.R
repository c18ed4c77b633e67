# Tests need a Python with nativebert, and the models of tests/support/r_models.py, served as a stand-in for the Hub.
skip_without_python <- function() {
  tryCatch(nativebert:::bridge(), nativebert_NoPython = function(e) skip("no Python with nativebert"))
  skip_if_not(nzchar(Sys.getenv("HF_ENDPOINT")), "no stand-in for the Hub")
}

# A value that Python code leaves in `x`, as JSON or a string: what is compared with comes by another way than the package's own
python_says <- function(code) reticulate::py_run_string(code, local = TRUE)$x

sentiment <- "distilbert-base-uncased-finetuned-sst-2-english"
minilm <- "sentence-transformers/all-MiniLM-L6-v2"
minilm_folder <- function() python_says(sprintf("import nativebert.hub\nx = str(nativebert.hub.resolve('%s').folder)", minilm))
