"""Reading what the processor can do."""

from __future__ import annotations

import os

from pocketvision.cpu import FEATURES, Cpu, available_cores, cpu, parse_cpuinfo

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model\t\t: 85
model name\t: Some Processor @ 2.00GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_bf16x

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd asimddp i8mm
CPU part\t: 0xd0b

Hardware\t: BCM2835
"""


def test_x86_flags_are_whole_words_of_the_first_processor() -> None:
    found = parse_cpuinfo(X86, "x86_64")
    assert found.name == "Some Processor @ 2.00GHz"
    assert found.features == ("avx2", "avx512f", "avx512_vnni")
    assert (found.is_x86, found.has_vnni, found.has_bf16) == (True, True, False)


def test_arm_features() -> None:
    found = parse_cpuinfo(ARM, "aarch64")
    assert (found.name, found.features) == ("BCM2835", ("neon", "asimddp", "i8mm"))
    assert (found.is_x86, found.has_vnni, found.has_bf16) == (False, False, False)


def test_what_cannot_be_read_is_left_out() -> None:
    found = parse_cpuinfo("nonsense", "riscv64")
    assert found == Cpu(name="riscv64", architecture="riscv64", features=())


def test_this_processor_is_read() -> None:
    assert set(cpu().features) <= set(FEATURES)
    assert cpu().name
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
