"""What a network says of a whole mosaic, on disk while it is made into a view: a file a part.

A pixel near the edge of a part is drawn by windows of several parts. Each part's file keeps what its own
windows say, weighted, of all pixels where they count; read together they sum to what is said.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from roadrisk.errors import DatasetError
from roadrisk.files import digest_of, whole_file
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.drawing.drawn import LEVELS, Drawn
from roadrisk.roads.drawing.lattice import CORE_STRIDES, MARGIN_STRIDES, STRIDE_PX, Lattice, Place
from roadrisk.roads.scenes import Window, within

STEPS = 256  # of a level: weighted shares of it are kept that finely
CERTAIN = (LEVELS - 1) * STEPS  # what is kept of a probability of 1
CHUNK_PX = 512  # compressed together, so that little is read for the margin of a neighbour
_LONGEST_HEADER = 1 << 20
_ZSTD = pa.Codec("zstd", compression_level=1)

Sums = NDArray[np.uint16]


class PartSums(NamedTuple):
    """What the windows of one part say of the pixels where they count.

    Parameters
    ----------
    sums : (H, W) probability times weight, in steps of 1 / `CERTAIN`; 0 where not `valid`.
    valid : (H, W) whether there is a picture.
    """

    sums: Sums
    valid: Mask


@dataclass(frozen=True)
class LevelsReader:
    """What is said of any window of a mosaic, from the files of the parts around.

    It may be pickled, and used by several threads.

    Parameters
    ----------
    folder : of the files.
    plan : digest of all that decides what is drawn: the pictures, the network.
    """

    folder: Path
    lattice: Lattice
    plan: str

    def read(self, window: Window) -> Drawn:
        """What is said of a window; beyond the plane nothing is known.

        Raises
        ------
        DatasetError : a file is missing, damaged or of another plan.
        """
        sums = np.zeros((window.height, window.width), np.uint16)
        valid = np.zeros(sums.shape, bool)
        for part in self.lattice.parts_at(window):
            for chunk, said in self._said(part, window):
                there, here = within(chunk, window), within(window, chunk)
                sums[there] += said.sums[here]
                valid[there] |= said.valid[here]
        sums += STEPS // 2
        sums //= STEPS
        return Drawn(sums.astype(np.uint8), valid)

    def is_whole(self, part: Place) -> bool:
        """Whether the file of a part is there, undamaged and of this plan."""
        if not self.path(part).is_file():
            return False
        try:
            for _ in self._said(part, self.lattice.reach(part)):
                pass
        except DatasetError:
            return False
        return True

    def path(self, part: Place) -> Path:
        """The file of a part."""
        return self.folder / f"r{part.row:05d}c{part.col:05d}.levels"

    def write(self, part: Place, said: PartSums) -> None:
        """Write the file of a part whole; `said` is of its `reach`."""
        reach, alone = self.lattice.reach(part), self.lattice.alone(part)
        sums = said.sums.copy()
        # nobody adds to these: half the bytes are zeros, and the rest is what will be read
        whole = sums[within(alone, reach)]
        whole += STEPS // 2
        whole -= whole % STEPS
        places = [within(chunk, reach) for chunk in _chunks(reach)]
        bodies = [_packed(sums[there], said.valid[there]) for there in places]
        chunks = [[len(body), zlib.crc32(body)] for body in bodies]
        header = json.dumps({"plan": self._identity, "part": part, "chunks": chunks})
        with whole_file(self.path(part)) as temporary, temporary.open("wb") as file:
            file.write(header.encode() + b"\n")
            file.writelines(bodies)

    @property
    def _identity(self) -> str:
        """Digest of the plan and of where its windows are."""
        shape = CORE_STRIDES, MARGIN_STRIDES, STRIDE_PX, CHUNK_PX
        return digest_of({"plan": self.plan, "lattice": asdict(self.lattice), "shape": shape})

    def _said(self, part: Place, window: Window) -> Iterator[tuple[Window, PartSums]]:
        """The chunks of a part that meet a window, and what they hold; none of those without a picture."""
        path, reach = self.path(part), self.lattice.reach(part)
        try:
            with path.open("rb") as file:
                chunks = list(_chunks(reach))
                for chunk, (start, size, checksum) in zip(chunks, self._places(file, part), strict=True):
                    if size and _is_any(within(chunk, window)):
                        file.seek(start)
                        body = file.read(size)
                        if len(body) != size or zlib.crc32(body) != checksum:
                            raise ValueError("not the bytes that were written")
                        yield chunk, _unpacked(body, chunk)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            what = "cannot be read" if isinstance(error, OSError) else "is damaged or of another run"
            raise DatasetError(f"{path} {what}; run the same command again, it is drawn anew") from None

    def _places(self, file: BinaryIO, part: Place) -> list[tuple[int, int, int]]:
        """Where the chunks of a file begin, their bytes, and their checksums."""
        header = json.loads(file.readline(_LONGEST_HEADER))
        if header["plan"] != self._identity or header["part"] != list(part):
            raise ValueError("of another plan")
        start, places = file.tell(), []
        for size, checksum in header["chunks"]:
            if type(size) is not int or size < 0:
                raise ValueError("not a number of bytes")
            places.append((start, size, checksum))
            start += size
        if start != file.seek(0, 2):
            raise ValueError("not as many bytes")
        return places


def _chunks(reach: Window) -> Iterator[Window]:
    """The chunks of a part, in (row, col) order."""
    for y in range(0, reach.height, CHUNK_PX):
        for x in range(0, reach.width, CHUNK_PX):
            height, width = min(CHUNK_PX, reach.height - y), min(CHUNK_PX, reach.width - x)
            yield Window(reach.y + y, reach.x + x, height, width)


def _is_any(there: tuple[slice, slice]) -> bool:
    return all(side.start < side.stop for side in there)


def _packed(sums: Sums, valid: Mask) -> bytes:
    """A chunk as bytes: upper halves, lower halves, valid; none where there is no picture."""
    if not valid.any():
        return b""
    upper, lower = (sums // STEPS).astype(np.uint8), (sums % STEPS).astype(np.uint8)
    plain = b"".join((upper.tobytes(), lower.tobytes(), np.packbits(valid).tobytes()))
    packed: bytes = _ZSTD.compress(plain, asbytes=True)
    return packed


def _unpacked(body: bytes, chunk: Window) -> PartSums:
    shape = chunk.height, chunk.width
    pixels = chunk.height * chunk.width
    # ArrowInvalid, of other bytes than were written, is a ValueError
    plain = np.frombuffer(_ZSTD.decompress(body, 2 * pixels + -(-pixels // 8)), np.uint8)
    sums = plain[:pixels].astype(np.uint16)
    sums *= STEPS
    sums += plain[pixels : 2 * pixels]
    valid = np.unpackbits(plain[2 * pixels :], count=pixels).astype(bool)
    return PartSums(sums.reshape(shape), valid.reshape(shape))
