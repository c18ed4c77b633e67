#' Text embeddings, classification and fine-tuning with BERT encoders
#'
#' Everything is computed by the Python package 'nativebert', which [install_nativebert()] installs. R sends texts and receives vectors, matrices and data frames
#' with the same bits as in Python, whatever the versions of 'reticulate' and 'numpy' are.
#'
#' @section Texts:
#' A text argument is a character vector, a factor, or a column of a data frame. A missing text (`NA`) has missing results, and a warning counts them. Texts must
#' be UTF-8, or marked as what they are; unmarked Latin-1 is an error.
#'
#' @section Options:
#' `...` takes options of the Python classes by name, in R's types: `max_tokens = 128`, `too_long = "window"` (read long texts in overlapping windows, in place
#' of cutting them with a warning), `precision = "int8"`, `device = "cuda"`, `revision = "..."`, `offline = TRUE`. An unknown option is an error that names those that
#' there are.
#'
#' @section Models:
#' A model is a folder, or a name on the Hugging Face Hub, from where it is downloaded at its first use. The four models that were used last stay in memory.
#'
#' @section Conditions:
#' Errors have the classes `nativebert_NotFound`, `nativebert_BadInput`, `nativebert_TooLong`, `nativebert_Refused`, ..., and all of them `nativebert_error`;
#' warnings `nativebert_Truncated`, `nativebert_Assumed`, `nativebert_MissingText`, ..., and `nativebert_warning`.
#'
#' @keywords internal
"_PACKAGE"
