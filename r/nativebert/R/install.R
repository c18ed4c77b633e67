ENVIRONMENT <- "r-nativebert"

environment_path <- function(name) {
  if (grepl("[/\\\\]", name)) name else file.path(reticulate::virtualenv_root(), name)
}

python_in <- function(environment) {
  if (.Platform$OS.type == "windows") file.path(environment, "Scripts", "python.exe") else file.path(environment, "bin", "python")
}

#' Install the Python package
#'
#' Makes a virtual environment with the system's Python and installs nativebert into it. Functions of this package use it from the next start of R on, unless
#' `RETICULATE_PYTHON` names another Python.
#'
#' @param environment The name of a virtual environment, or a path.
#' @param python A Python of version 3.11 or newer; `NULL` to look for one: the system's is preferred.
#' @param packages What to install, as pip takes it.
#' @param torch `"cpu"` for the build of torch without CUDA, which is much smaller; `"default"` for the package index's own; or a requirement, such as `"torch==2.13.0"`.
#' @return The path of the environment's Python, invisibly.
#' @examples
#' \dontrun{
#' install_nativebert()
#' }
#' @export
install_nativebert <- function(environment = ENVIRONMENT, python = NULL, packages = "nativebert[train]", torch = "cpu") {
  target <- python_in(path.expand(environment_path(environment)))
  if (!file.exists(target)) {
    python <- if (is.null(python)) find_python() else python
    message("Making the environment ", dirname(dirname(target)), " with ", python)
    run_python(python, c("-m", "venv", shQuote(dirname(dirname(target)))), "making the environment failed; on Debian and Ubuntu: apt-get install python3-venv")
  }
  # reticulate before 1.38 converts no array of numpy 2; nativebert does not depend on it, other Python packages that you call may
  numpy <- if (utils::packageVersion("reticulate") < "1.38") "numpy<2"
  index <- if (identical(torch, "cpu") && Sys.info()[["sysname"]] != "Darwin") c("--extra-index-url", "https://download.pytorch.org/whl/cpu")
  requirement <- if (torch %in% c("cpu", "default")) "torch" else torch
  message("Installing ", paste(c(packages, requirement, numpy), collapse = ", "))
  run_python(target, c("-m", "pip", "install", "--quiet", "--disable-pip-version-check", index, shQuote(c(packages, requirement, numpy))), "pip failed: see its messages above")
  version <- run_python(target, c("-c", shQuote("import nativebert, numpy, torch; print(nativebert.__version__, 'torch', torch.__version__, 'numpy', numpy.__version__)")), "nativebert does not start", TRUE)
  message("Installed nativebert ", version, " in ", target)
  if (reticulate::py_available() && reticulate::py_config()$python != target) message("Start R again to use it.")
  invisible(target)
}

# R's own library path makes some builds of Python load R's libraries in place of theirs
run_python <- function(python, arguments, failure, output = FALSE) {
  result <- system2(python, arguments, stdout = if (output) TRUE else "", env = "LD_LIBRARY_PATH=")
  status <- if (output) attr(result, "status") else result
  if (!is.null(status) && status != 0) fail("Install", sprintf("%s (%s)", failure, python))
  result
}

find_python <- function() {
  known <- c("/usr/bin/python3", "python3", "python3.13", "python3.12", "python3.11", "python")
  for (python in Sys.which(known)) {
    if (!nzchar(python)) next
    code <- shQuote("import sys; sys.exit(sys.version_info < (3, 11))")
    if (system2(python, c("-c", code), stdout = FALSE, stderr = FALSE, env = "LD_LIBRARY_PATH=") == 0) return(unname(python))
  }
  fail("NoPython", "no Python of version 3.11 or newer was found: install one, or pass its path, install_nativebert(python = \"...\")")
}
