"""Prepared pictures, kept in the folder beside their dataset."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np

from roadrisk.files import digest_of
from roadrisk.grid import IntArray
from roadrisk.imagery.picture_files import Pixels
from roadrisk.learning.pictures.kept import Kept, chunks_to_make
from roadrisk.learning.pictures.prefetch import cores, prefetched
from roadrisk.learning.pictures.sources import CachedPictures, Pictures
from roadrisk.progress import Progress, silent

FORM = 1  # raised whenever the same files would be prepared otherwise than before


@dataclass(frozen=True, eq=False)
class KeptPictures:
    """Pictures prepared once and kept in a file beside the dataset."""

    pictures: Pictures
    kept: Kept

    def prepared(self, indices: IntArray) -> Pixels:
        """(n, 3, size, size) of these pictures."""
        self.fill(indices)
        return self.kept.rows(indices).transpose(0, 3, 1, 2)

    def fill(self, indices: IntArray, progress: Progress = silent) -> None:
        """Make and keep those of these pictures that are missing.

        Raises
        ------
        DatasetError : the disk is full or the folder cannot be written.
        """
        made = prefetched(
            lambda job: (job, self.pictures.prepared(job[0])), chunks_to_make([self.kept], indices), cores()
        )
        with closing(made):
            for (chunk, done, total), pixels in made:
                self.kept.add(chunk, pixels.transpose(0, 2, 3, 1))
                progress("prepare pictures", done, total)


def kept_pictures(source: CachedPictures) -> KeptPictures:
    """The same pictures, each prepared once and kept."""
    pictures, cache = source
    size_px = pictures.size_px
    name = digest_of({"pictures": pictures.identity, "size_px": size_px, "form": FORM})[:24]
    shape = (size_px, size_px, 3)
    return KeptPictures(pictures, Kept(cache / f"pictures-{name}", pictures.keys, shape, np.dtype(np.uint8)))
