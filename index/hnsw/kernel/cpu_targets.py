"""The kinds of CPU that the kernel is compiled for: few enough for an image to hold code for any machine that it meets.

numba compiles for the very CPU that it runs on, and keeps the result under that CPU's name and features: on any other, even
a twin with one feature more, it compiles anew. So compile for one of the levels of the x86-64 psABI
(https://gitlab.com/x86-psABIs/x86-64-ABI) in its place; measured, that costs nothing (docs/decisions/0015-the-image.md).
"""

from __future__ import annotations

from collections.abc import Mapping

_V2 = {"cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"}
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
_ICE_LAKE = _V4 | {
    *("adx", "aes", "avx512bitalg", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512vpopcntdq"),
    *("clflushopt", "fsgsbase", "gfni", "pclmul", "rdrnd", "rdseed", "sha", "vaes", "vpclmulqdq", "xsavec", "xsaveopt"),
}
WITH_VNNI = "icelake-server"  # has VPDPBUSD and VPOPCNTQ, as Zen 4 and all Xeons since do

# LLVM's name of the family -> what a CPU must have, and LLVM's options; the best comes first. Of itself LLVM would use only
# half the width of an AVX-512 register, which costs a fifth of the queries/s at 2048 dimensions.
CPU_TARGETS = {
    WITH_VNNI: (_ICE_LAKE, "-prefer-256-bit"),
    "x86-64-v4": (_V4, "-prefer-256-bit"),
    "x86-64-v3": (_V3, ""),
    "x86-64-v2": (_V2, ""),
}


def best_cpu_target(features: Mapping[str, bool]) -> tuple[str, str] | None:
    """LLVM's name and options of the best family that a CPU belongs to; None where there is none, as on ARM.

    ``features`` are LLVM's: ``llvmlite.binding.get_host_cpu_features()``.
    """
    for name, (needed, options) in CPU_TARGETS.items():
        if all(features.get(feature) for feature in needed):
            return name, options
    return None
