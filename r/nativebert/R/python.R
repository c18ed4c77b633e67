#' Tensors and results of Python as values of R
#'
#' With these, values that a Python function of 'nativebert' or 'torch' returns by 'reticulate' are numbers of R: `as.integer(logits$argmax(dim = 1L))`,
#' `dim(output$last_hidden_state)`, `as.matrix(tensor)`. They do the same with every version of 'reticulate' and 'numpy'. Once this package is loaded, results of tasks
#' (`Results`) become lists of R, whose first item is `[[1]]`.
#'
#' @param x A tensor of torch, or results of nativebert.
#' @param ... Not used.
#' @param mode See [as.vector()].
#' @return A vector, an array or a matrix.
#' @name python-values
NULL

#' @rdname python-values
#' @export
as.array.torch.Tensor <- function(x, ...) as.array(from_python(x))

#' @rdname python-values
#' @export
as.matrix.torch.Tensor <- function(x, ...) as.matrix(from_python(x))

#' @rdname python-values
#' @export
as.vector.torch.Tensor <- function(x, mode = "any") as.vector(from_python(x), mode)

#' @rdname python-values
#' @export
as.double.torch.Tensor <- function(x, ...) as.double(from_python(x))

#' @rdname python-values
#' @export
as.integer.torch.Tensor <- function(x, ...) as.integer(from_python(x))

#' @rdname python-values
#' @export
as.logical.torch.Tensor <- function(x, ...) as.logical(from_python(x))

#' @rdname python-values
#' @export
dim.torch.Tensor <- function(x) shape_of(x)

#' @rdname python-values
#' @export
length.torch.Tensor <- function(x) as.integer(prod(shape_of(x)))

#' @importFrom reticulate py_to_r
#' @rawNamespace S3method(py_to_r, nativebert.tasks.results.Results)
py_to_r.nativebert.tasks.results.Results <- function(x) reticulate::py_to_r(reticulate::import_builtins(convert = FALSE)$list(x))

#' @rawNamespace S3method(py_to_r, pathlib.PurePath)
py_to_r.pathlib.PurePath <- function(x) reticulate::py_str(x)

from_python <- function(x) unserialize(bridge()$array(x))

shape_of <- function(x) {
  shape <- unserialize(bridge()$shape(x))
  if (length(shape)) shape
}
