"""The C kernels of the CPU plan. Everything else about the package is in pyproject.toml.

The library is loaded with ctypes and knows nothing of Python or torch. Its kernels are compiled once for each instruction set level, and
the processor's own is chosen when it is loaded, so one build runs everywhere. Where it cannot be built the package works without it:
`nativebert.kernels.why_not()` says why.
"""

from __future__ import annotations

import platform
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = Path("nativebert/kernels")
COMMON = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fvisibility=default", "-Wall", "-Wextra", "-Wno-psabi", "-fopenmp"]
COMMON_SOURCES = ("abi.c", "dispatch.c", "encode.c", "qkv_cache.c")  # the same at all levels
AVX512 = ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
VNNI = [*AVX512, "-mavx512vnni"]
LEVELS: dict[str, list[str]] = {"portable": []}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS |= {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "avx512vnni": VNNI, "zen4": [*VNNI, "-DWINOGRAD"]}


class BuildKernels(build_ext):
    """Compile `level.c` once for each level, and link the levels with the rest."""

    def build_extension(self, ext: Extension) -> None:
        headers = list(map(str, FOLDER.glob("*.[ch]")))  # level.c includes the other files
        sources = runpy.run_path(str(FOLDER / "fingerprint.py"))["fingerprint"](FOLDER.resolve())
        temp = Path(self.build_temp)

        def objects(source: str, name: str, flags: list[str]) -> list[str]:
            flags = [*COMMON, *flags]
            macros = [("LEVEL", name), ("SOURCES", f'"{sources}"')]
            found: list[str] = self.compiler.compile(
                [str(FOLDER / source)], str(temp / name), macros, extra_postargs=flags, depends=headers
            )
            return found

        built = [built for source in COMMON_SOURCES for built in objects(source, "common", [])]
        for level, flags in LEVELS.items():
            built += objects("level.c", level, flags)
        self.compiler.link_shared_object(built, self.get_ext_fullpath(ext.name), extra_postargs=["-fopenmp", "-lm"])


extension = Extension(
    "nativebert.kernels.library", [str(FOLDER / name) for name in ("level.c", *COMMON_SOURCES)], optional=True
)
# Elsewhere compilers have no OpenMP by default, and nobody has tried.
setup(ext_modules=[extension] if sys.platform == "linux" else [], cmdclass={"build_ext": BuildKernels})
