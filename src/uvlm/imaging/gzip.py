"""Fast reading of gzip files into memory that is sized beforehand.

isal inflates about twice as fast as zlib. Output goes straight into the caller's buffer, so the
decompressed bytes exist once, and a small file that would inflate without end stops at what its
image header promised.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from isal import igzip_lib

from uvlm.errors import ImageError, InputError

__all__ = ["GzipReader", "is_gzip"]

PIECE = 1 << 20
DAMAGED: tuple[type[Exception], ...] = (cast("type[Exception]", igzip_lib.IsalError), EOFError)


def is_gzip(data: bytes) -> bool:
    """Whether `data` starts as a gzip file does."""
    return data[:2] == b"\x1f\x8b"


class GzipReader:
    """Reads the decompressed stream of gzip bytes, of one member or of several in a row."""

    def __init__(self, data: bytes, path: Path | str) -> None:
        self._path = path
        self._data = memoryview(data)
        self._at = 0
        self._inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the stream.

        Raises:
            ImageError: the file ends early, or its checksum is wrong.
        """
        pieces = []
        while size > 0 and (piece := self._piece(min(size, PIECE))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def readinto(self, target: memoryview) -> int:
        """Fill `target`; the number of bytes written is smaller only at the end of the stream."""
        filled = 0
        while filled < len(target) and (piece := self._piece(min(len(target) - filled, PIECE))):
            target[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def _piece(self, size: int) -> bytes:
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            feed = b""
            if self._inflate.needs_input:
                feed = bytes(self._data[self._at : self._at + PIECE])
                self._at += len(feed)
                if not feed:
                    raise self._broken("a gzip file that ends too early")
            try:
                piece = bytes(self._inflate.decompress(feed, size))
            except DAMAGED as error:
                raise self._broken("damaged gzip data") from error
            if piece:
                return piece

    def _next_member(self) -> bool:
        """gzip allows members in a row; anything else after the last is ignored."""
        start = self._at - len(self._inflate.unused_data)
        if not is_gzip(bytes(self._data[start : start + 2])):
            return False
        self._at = start
        self._inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return True

    def _broken(self, found: str) -> InputError:
        return ImageError.about(self._path, found, "Copy or download it again.")
