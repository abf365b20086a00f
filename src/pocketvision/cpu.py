"""What the processor can do, read from the operating system (no third-party import)."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Instruction sets that decide how fast a network runs, under the names Linux gives them.
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "neon",
    "asimddp",
    "i8mm",
)
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
BF16 = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cpu:
    """Marketing name, architecture ("x86_64", "aarch64", ...) and those of FEATURES it has."""

    name: str
    architecture: str
    features: tuple[str, ...]

    @property
    def is_x86(self) -> bool:
        """True on 32- and 64-bit x86."""
        return self.architecture.lower() in {"x86_64", "amd64", "i386", "i686", "x86"}

    @property
    def has_vnni(self) -> bool:
        """True where x86 multiplies uint8 by int8 without saturating in 16 bits."""
        return not VNNI.isdisjoint(self.features)

    @property
    def weight_bits(self) -> int:
        """Bits of an INT8 weight that are multiplied without saturating.

        Products of uint8 and int8 are summed in pairs in 16 bits on x86 without VNNI: 7 are safe.
        """
        return 7 if self.is_x86 and not self.has_vnni else 8

    @property
    def has_bf16(self) -> bool:
        """True where bfloat16 products run natively on x86."""
        return not BF16.isdisjoint(self.features)


@functools.cache
def cpu() -> Cpu:
    """The processor of this machine; what cannot be read is left out."""
    architecture = platform.machine() or "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        return parse_cpuinfo(cpuinfo.read_text(errors="replace"), architecture)
    if platform.system() == "Darwin":
        features = ("neon", "asimddp") if architecture == "arm64" else ("avx2",)
        return Cpu(name=_sysctl_name(), architecture=architecture, features=features)
    return Cpu(name=platform.processor() or architecture, architecture=architecture, features=())


def parse_cpuinfo(text: str, architecture: str) -> Cpu:
    """The first processor of a /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    if "asimd" in flags:
        flags.add("neon")
    name = fields.get("model name") or fields.get("hardware") or fields.get("model")
    return Cpu(
        name=name if name and not name.isdecimal() else architecture,
        architecture=architecture,
        features=tuple(feature for feature in FEATURES if feature in flags),
    )


def available_cores() -> int:
    """Cores this process may use: its affinity where the system has one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sysctl_name() -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return platform.processor() or "unknown"
    return done.stdout.strip()
