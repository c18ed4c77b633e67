"""The C kernels of the CPU plan. Everything else about the package is in pyproject.toml.

The library is loaded with ctypes and knows nothing of Python or torch: one wheel for all Pythons of a system. Its kernels are compiled once
for each instruction set level, and the processor's own is chosen when it is loaded, so one build runs everywhere. Where it cannot be built
the package works without it, and the wheel is one for any system: `nativebert.kernels.why_not()` says why. NATIVEBERT_BUILD_KERNELS=0 leaves it out.
"""

from __future__ import annotations

import os
import platform
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("nativebert/kernels")
COMMON = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fvisibility=default", "-Wall", "-Wextra", "-Wno-psabi"]
LINK = ["-fopenmp", "-lm"] + ["-s"] * ("-fsanitize" not in os.environ.get("LDFLAGS", ""))  # stripped
if sys.platform == "darwin":
    # Apple's compiler has OpenMP, but neither its header nor its library. The library is that of torch, which is loaded first: a second one in
    # the process would keep threads of its own.
    COMMON += ["-Xpreprocessor", "-fopenmp", f"-I{os.environ.get('LIBOMP_PREFIX', '/opt/homebrew/opt/libomp')}/include"]
    LINK = ["-undefined", "dynamic_lookup", "-Wl,-x"]
else:
    COMMON += ["-fopenmp"]
COMMON_SOURCES = ("abi.c", "dispatch.c", "encode.c", "qkv_cache.c")  # the same at all levels
AVX512 = ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
VNNI = [*AVX512, "-mavx512vnni"]
LEVELS: dict[str, list[str]] = {"portable": []}
if platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux":
    LEVELS |= {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "avx512vnni": VNNI}
    LEVELS |= {"zen4": [*VNNI, "-DWINOGRAD"], "zen5": [*VNNI, "-DWINOGRAD", "-DSHARED_BROADCASTS"]}


class BuildKernels(build_ext):
    """Compile `level.c` once for each level, and link the levels with the rest."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"  # whatever the Python

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
        self.compiler.link_shared_object(built, self.get_ext_fullpath(ext.name), extra_postargs=LINK)


class Wheel(bdist_wheel):
    """A wheel for all Pythons of this system, or of all systems where it holds no library."""

    def get_tag(self) -> tuple[str, str, str]:
        has_library = any(Path(self.bdist_dir).rglob("library.so"))
        return "py3", "none", super().get_tag()[2] if has_library else "any"


extension = Extension(
    "nativebert.kernels.library", [str(FOLDER / name) for name in ("level.c", *COMMON_SOURCES)], optional=True
)
# Windows' own compiler knows neither GNU's C nor its way to ask for an instruction set.
wanted = sys.platform in ("linux", "darwin") and os.environ.get("NATIVEBERT_BUILD_KERNELS") != "0"
setup(
    ext_modules=[extension] if wanted else [],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
    options={"editable_wheel": {"mode": "compat"}},  # a path that type checkers and editors follow, too
)
