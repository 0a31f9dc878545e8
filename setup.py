# SPDX-License-Identifier: Apache-2.0
"""Build of the two native modules, `vharm._C` (CPU) and `vharm._cuda`.

Neither links torch, so one build serves every torch version and the build environment needs only
a compiler, pybind11 and ninja. Environment variables, all read in this file:

    VHARM_BUILD       auto (default) | cpu | cuda | none
    VHARM_CUDA_ARCHS  e.g. "90" or "80;90", "all", "native"; default: the card at hand, else 90
    CXX, NVCC         the compilers
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
ALL_CUDA_ARCHS = ("80", "86", "89", "90", "100", "120")

# Each file in csrc/cpu is compiled once per entry, into the namespace vharm::<name>.
ISA_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl",
        "-mavx2", "-mfma", "-mf16c", "-mprefer-vector-width=512",
        # GCC 12 warns of its own intrinsics headers here.
        "-Wno-uninitialized", "-Wno-maybe-uninitialized",
    ],
}  # fmt: skip
CXX_FLAGS = [
    "-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-Wall", "-Wextra", "-DNDEBUG",
]  # fmt: skip


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def cxx_compiler() -> str | None:
    candidates = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return next((found for c in candidates if c and (found := shutil.which(c))), None)


def cuda_compiler() -> str | None:
    candidates = [os.environ.get("NVCC"), "nvcc", "/usr/local/cuda/bin/nvcc"]
    return next((found for c in candidates if c and (found := shutil.which(c))), None)


def wanted() -> tuple[bool, bool]:
    """Which modules to build, (cpu, cuda); raises where one was asked for and cannot be built."""
    mode = os.environ.get("VHARM_BUILD", "auto")
    if mode not in ("auto", "cpu", "cuda", "none"):
        raise SystemExit(f"VHARM_BUILD must be auto, cpu, cuda or none, got {mode!r}")
    cxx, nvcc = cxx_compiler(), cuda_compiler()
    if mode in ("cpu", "cuda") and cxx is None:
        raise SystemExit(f"VHARM_BUILD={mode}, but no C++ compiler was found (set CXX)")
    if mode == "cuda" and nvcc is None:
        raise SystemExit("VHARM_BUILD=cuda, but nvcc was not found (set NVCC)")
    if mode == "none" or cxx is None:
        return False, False
    return True, mode == "cuda" or (mode == "auto" and nvcc is not None)


def cuda_archs(nvcc: str) -> list[str]:
    asked = os.environ.get("VHARM_CUDA_ARCHS", "native").strip()
    if asked == "all":
        listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
        return [a for a in ALL_CUDA_ARCHS if f"compute_{a}" in listed]
    if asked != "native":
        return [a for a in asked.replace(",", ";").split(";") if a]
    try:
        query = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        lines = query.stdout.split()
        found = sorted({line.replace(".", "") for line in lines})
        if query.returncode == 0 and all(a.isdigit() for a in found) and found:
            return found
    except (OSError, subprocess.TimeoutExpired):
        pass
    return ["90"]


def cuda_flags(nvcc: str) -> list[str]:
    archs = cuda_archs(nvcc)
    flags = [
        "-std=c++17", "-O3", "-DNDEBUG", "--cudart", "static", "-Xcompiler", "-fPIC",
        "-Xcompiler", "-fvisibility=hidden", "--threads", "2",
    ]  # fmt: skip
    for arch in archs:
        flags += ["-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    # PTX of the newest, so that cards made after this build can still run it.
    newest = max(archs, key=int)
    flags += ["-gencode", f"arch=compute_{newest},code=compute_{newest}"]
    if len(archs) > 1:
        flags += ["-Xfatbin", "--compress-all"]
    return flags


class NinjaFile:
    """A build.ninja in the making; ninja decides what is out of date, headers included."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = ["ninja_required_version = 1.3"]
        self.targets: list[str] = []

    def rule(self, name: str, command: str, *, depfile: bool) -> None:
        self.lines += [f"rule {name}", f"  command = {command}", f"  description = {name} $out"]
        if depfile:
            self.lines += ["  depfile = $out.d", "  deps = gcc"]

    def build(self, target: Path, rule: str, inputs: list[Path], **variables: str) -> Path:
        escaped = " ".join(str(i).replace(" ", "$ ") for i in inputs)
        self.lines.append(f"build {str(target).replace(' ', '$ ')}: {rule} {escaped}")
        self.lines += [f"  {key} = {value}" for key, value in variables.items()]
        return target

    def run(self, targets: list[Path]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "build.ninja"
        text = "\n".join(self.lines) + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        import ninja

        command = [str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(self.folder)]
        if jobs := os.environ.get("MAX_JOBS"):
            command += ["-j", jobs]
        subprocess.run([*command, *map(str, targets)], check=True)


class BuildNative(build_ext):
    """Compiles csrc/ with ninja and puts the modules where setuptools expects them."""

    def run(self) -> None:
        cpu, cuda = wanted()
        if not cpu:
            self.warn("no native module is built; vharm will run on its reference backend")
            return
        import pybind11

        folder = Path(self.build_temp).resolve() / "native"
        ninja_file = NinjaFile(folder)
        includes = " ".join(
            f"-I{path}"
            for path in (CSRC / "include", CSRC, sysconfig.get_paths()["include"],
                         pybind11.get_include())
        )  # fmt: skip
        flags = " ".join(CXX_FLAGS)
        ninja_file.rule(
            "cxx", f"{cxx_compiler()} -MMD -MF $out.d {flags} {includes} $extra -c $in -o $out",
            depfile=True,
        )  # fmt: skip
        ninja_file.rule(
            "link", f"{cxx_compiler()} -shared -o $out $in $extra -pthread", depfile=False
        )
        targets = [self.cpu_module(ninja_file, folder)]
        if cuda:
            targets.append(self.cuda_module(ninja_file, folder, includes))
        ninja_file.run([target for target, _ in targets])
        for target, name in targets:
            destination = Path(self.get_ext_fullpath(name)).resolve()
            destination.parent.mkdir(parents=True, exist_ok=True)
            # Renamed into place: a process that has the old module loaded keeps the old file.
            partial = destination.with_name(destination.name + ".partial")
            shutil.copyfile(target, partial)
            os.replace(partial, destination)

    def cpu_module(self, ninja_file: NinjaFile, folder: Path) -> tuple[Path, str]:
        objects = []
        for source in sorted((CSRC / "cpu").glob("*.cpp")):
            for isa, isa_flags in ISA_FLAGS.items():
                if isa != "baseline" and not is_x86():
                    continue
                objects.append(
                    ninja_file.build(
                        folder / f"cpu_{source.stem}.{isa}.o", "cxx", [source],
                        extra=" ".join([f"-DVHARM_ISA={isa}", f"-DVHARM_ISA_{isa}=1", *isa_flags]),
                    )
                )  # fmt: skip
        once = [*(CSRC / "runtime").glob("*.cpp"), *(CSRC / "python").glob("*.cpp")]
        for source in sorted(once):
            if source.stem.endswith("cuda"):
                continue
            extra = "-DVHARM_X86=1" if is_x86() else ""
            name = f"{source.parent.name}_{source.stem}.o"
            objects.append(ninja_file.build(folder / name, "cxx", [source], extra=extra))
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        extra = "-undefined dynamic_lookup" if sys.platform == "darwin" else ""
        module = ninja_file.build(folder / f"_C{suffix}", "link", objects, extra=extra)
        return module, "vharm._C"

    def cuda_module(self, ninja_file: NinjaFile, folder: Path, includes: str) -> tuple[Path, str]:
        nvcc = cuda_compiler()
        assert nvcc is not None
        flags = " ".join(cuda_flags(nvcc))
        ninja_file.rule(
            "nvcc", f"{nvcc} -MMD -MF $out.d {flags} {includes} -c $in -o $out", depfile=True
        )
        ninja_file.rule("nvlink", f"{nvcc} -shared -o $out $in --cudart static", depfile=False)
        objects = [
            ninja_file.build(folder / f"cuda_{source.stem}.o", "nvcc", [source])
            for source in sorted((CSRC / "cuda").glob("*.cu"))
        ]
        objects += [
            ninja_file.build(
                folder / f"python_{source.stem}.o", "cxx", [source],
                extra=f"-I{Path(nvcc).resolve().parent.parent / 'include'}",
            )
            for source in sorted((CSRC / "python").glob("*cuda.cpp"))
        ]  # fmt: skip
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        return ninja_file.build(folder / f"_cuda{suffix}", "nvlink", objects), "vharm._cuda"


class BuildPy(build_py):
    """Copies the public C++ headers into the package, where `vharm.get_include()` finds them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "vharm" / "include" / "vharm"
        target.mkdir(parents=True, exist_ok=True)
        for header in (CSRC / "include" / "vharm").glob("*.[hc][pu][ph]"):
            shutil.copyfile(header, target / header.name)


def extensions() -> list[Extension]:
    cpu, cuda = wanted()
    names = (["vharm._C"] if cpu else []) + (["vharm._cuda"] if cuda else [])
    return [Extension(name, sources=[]) for name in names]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative, "build_py": BuildPy})
