"""One column per fact instead of one object per file: what a million files can be held in."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt


class Texts(Sequence[str]):
    """Many short texts in one block of bytes, with 12 bytes of bookkeeping each.

    File names that are no Unicode text come back as they went in (`surrogateescape`).
    """

    __slots__ = ("_block", "_lengths", "_starts")

    def __init__(
        self, block: bytearray, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32]
    ) -> None:
        self._block = block
        self._starts = starts
        self._lengths = lengths

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """A column of `texts`."""
        builder = TextsBuilder()
        for text in texts:
            builder.append(text)
        return builder.done()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Texts: ...
    def __getitem__(self, row: int | slice) -> str | Texts:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        start = int(self._starts[row])
        text = self._block[start : start + int(self._lengths[row])]
        return text.decode("utf-8", "surrogateescape")

    def take(self, rows: npt.NDArray[np.int64]) -> Texts:
        """The texts of those rows, in that order; the block is shared."""
        return Texts(self._block, self._starts[rows], self._lengths[rows])


class TextsBuilder:
    """A column of texts that grows."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._starts = array("q")

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, text: str) -> None:
        """Add a row."""
        self._starts.append(len(self._block))
        self._block += text.encode("utf-8", "surrogateescape")

    def done(self) -> Texts:
        """The column; the builder is not used afterwards."""
        starts = np.frombuffer(self._starts, dtype=np.int64) if self._starts else _NONE
        lengths = np.diff(starts, append=len(self._block)).astype(np.int32)
        return Texts(self._block, starts, lengths)


_NONE = np.zeros(0, dtype=np.int64)


class HexDigests(Sequence[str]):
    """A column of hashes, (N, bytes) uint8, as hexadecimal texts."""

    __slots__ = ("_digests",)

    def __init__(self, digests: npt.NDArray[np.uint8]) -> None:
        self._digests = digests

    def __len__(self) -> int:
        return len(self._digests)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> HexDigests: ...
    def __getitem__(self, row: int | slice) -> str | HexDigests:
        if isinstance(row, slice):
            return HexDigests(self._digests[row])
        digest: bytes = self._digests[row].tobytes()
        return digest.hex()


class Coded(Sequence[str]):
    """A column of few different texts, as (N,) positions in a table."""

    __slots__ = ("_codes", "_table")

    def __init__(self, codes: npt.NDArray[np.int8], table: Sequence[str]) -> None:
        self._codes = codes
        self._table = table

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Coded: ...
    def __getitem__(self, row: int | slice) -> str | Coded:
        if isinstance(row, slice):
            return Coded(self._codes[row], self._table)
        return self._table[int(self._codes[row])]
