# The way to Python and back: nativebert/r.py says what travels, and why as it does.

state <- new.env(parent = emptyenv())

# The environment of install_nativebert() is the first choice, unless RETICULATE_PYTHON or the user names another Python
.onLoad <- function(libname, pkgname) {
  python <- python_in(path.expand(environment_path(ENVIRONMENT)))
  if (!nzchar(Sys.getenv("RETICULATE_PYTHON")) && !reticulate::py_available() && file.exists(python)) {
    reticulate::use_python(python, required = FALSE)
  }
}

bridge <- function() {
  if (is.null(state$module)) {
    state$module <- tryCatch(reticulate::import("nativebert.r", convert = TRUE), error = function(e) no_python(conditionMessage(e)))
    state$process <- Sys.getpid()
  }
  if (Sys.getpid() != state$process) {
    fail("Forked", paste(
      "this process was forked (mclapply) from one that runs nativebert, and Python could hang in it: call nativebert from one process, which uses all",
      "cores, or start new processes with parallel::makeCluster()"
    ))
  }
  state$module
}

no_python <- function(message) {
  python <- tryCatch(paste0(" from ", reticulate::py_config()$python), error = function(e) "")
  message <- sub("\n.*", "", trimws(message))
  fail("NoPython", sprintf(
    "the Python package nativebert cannot be loaded%s (%s): run install_nativebert() and start R again, or set RETICULATE_PYTHON to a Python that has it",
    python, message
  ))
}

condition <- function(class, kind, message) {
  structure(class = c(paste0("nativebert_", class), paste0("nativebert_", kind), kind, "condition"), list(message = message, call = NULL))
}

fail <- function(class, message) stop(condition(class, "error", message))

warn <- function(class, message) warning(condition(class, "warning", message))

# One call of Python. `.about` begins its warnings, where several calls make one of R's; matrices travel as bytes.
ask <- function(.task, ..., .matrices = list(), .about = "") {
  job <- as.character(jsonlite::toJSON(list(...), na = "null", null = "null", digits = I(17)))
  python <- bridge()
  reply <- unserialize(do.call(python$call, c(list(.task, job), unname(.matrices))))
  for (note in reply$warnings) warn(note$class, paste0(.about, note$message))
  if (!is.null(reply$error)) fail(reply$error$class, reply$error$message)
  reply$value
}

# Options for Python: a JSON object, single values unboxed.
options_for <- function(...) {
  options <- list(...)
  if (!length(options)) return(structure(list(), names = character(0)))
  if (is.null(names(options)) || !all(nzchar(names(options)))) {
    fail("BadInput", "options must have names, such as max_tokens = 128")
  }
  lapply(options, function(value) if (is.atomic(value) && length(value) == 1L && is.null(names(value))) jsonlite::unbox(value) else value)
}

one_string <- function(x, name) {
  if (!is.character(x) || length(x) != 1L || is.na(x)) fail("BadInput", sprintf("%s must be one string, such as a folder or a name on the Hub", name))
  jsonlite::unbox(enc2utf8(x))
}
