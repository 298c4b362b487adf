"""Files read once, from front to back, plain or compressed, into memory that is sized beforehand.

`FileReader` hashes what passes, so that neither a file nor what it inflates to is ever held whole.
isal inflates about twice as fast as zlib; output goes straight into the caller's buffer, and a
small file that would inflate without end stops at what its image header promised.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import cast

from isal import igzip_lib

from uvlm.errors import ImageError, InputError

__all__ = ["FileReader", "GzipReader", "is_gzip"]

PIECE = 1 << 18
"""Bytes inflated at a time: what stays in the processor's cache, a quarter faster than 4 MB."""

AHEAD = 352
"""Bytes that tell what a file is: the header of a NIfTI file."""

DAMAGED: tuple[type[Exception], ...] = (cast("type[Exception]", igzip_lib.IsalError), EOFError)


def is_gzip(data: bytes) -> bool:
    """Whether `data` starts as a gzip file does."""
    return data[:2] == b"\x1f\x8b"


class FileReader:
    """The bytes of a file in order, and the SHA-256 of all of them.

    Attributes:
        start: its first bytes, read ahead to see what it is; `read` gives them again

    Raises:
        ImageError: no such file, empty, or the system refuses.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        try:
            # Pieces are large and go into the caller's memory; a buffer would only copy them.
            self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115, closed on exit
        except FileNotFoundError:
            raise ImageError.about(path, "no such file", "Check the path.") from None
        except OSError as error:
            raise self._refused(error) from None
        self._ahead = b""
        try:
            self.start = self.read(AHEAD)
            if not self.start:
                raise ImageError.about(path, "an empty file", "Copy or download it again.")
        except ImageError:
            self._file.close()
            raise
        self._ahead = self.start

    def __enter__(self) -> FileReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        target = bytearray(size)
        filled = self.readinto(memoryview(target))
        return bytes(target[:filled])

    def readinto(self, target: memoryview) -> int:
        """Fill `target`; the number of bytes written is smaller only at the end of the file."""
        filled = min(len(self._ahead), len(target))
        target[:filled] = self._ahead[:filled]
        self._ahead = self._ahead[filled:]
        while filled < len(target):
            piece = target[filled : filled + PIECE]
            try:
                count = self._file.readinto(piece) or 0
            except OSError as error:
                raise self._refused(error) from None
            if count == 0:
                break
            self._digest.update(piece[:count])
            filled += count
        return filled

    def checksum(self) -> str:
        """SHA-256 of the whole file; reads on to its end."""
        rest = memoryview(bytearray(PIECE))
        while self.readinto(rest):
            pass
        return self._digest.hexdigest()

    def _refused(self, error: OSError) -> InputError:
        return ImageError.about(
            self._path, f"cannot be read ({error.strerror})", "Check the path and its permissions."
        )


class GzipReader:
    """Reads the decompressed stream of a gzip file, of one member or of several in a row."""

    def __init__(self, file: FileReader, path: Path | str) -> None:
        self._path = path
        self._file = file
        self._feed = b""
        self._ended = False
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
            if self._ended or (self._inflate.eof and not self._next_member()):
                return b""
            feed, self._feed = self._feed, b""
            if self._inflate.needs_input and not feed:
                feed = self._file.read(PIECE)
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
        rest = bytes(self._inflate.unused_data)
        if len(rest) < 2:
            rest += self._file.read(PIECE)
        if not is_gzip(rest):
            self._ended = True
            return False
        self._feed = rest
        self._inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return True

    def _broken(self, found: str) -> InputError:
        return ImageError.about(self._path, found, "Copy or download it again.")
