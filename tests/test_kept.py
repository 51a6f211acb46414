"""What is made once and kept: found again by its key, whole or made anew, by any number of processes at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadrisk.errors import DatasetError
from roadrisk.learning.pictures.kept import Kept, chunks_to_make
from roadrisk.learning.pictures.kept_pictures import kept_pictures
from roadrisk.learning.pictures.prefetch import AHEAD, prefetched
from roadrisk.learning.pictures.sources import CachedPictures, FilePictures, MosaicPictures

F4 = np.dtype(np.float32)
KEYS = np.array([70, 10, 40, 10, 99])  # the second and the fourth are the same row
RECORD_BYTES = 8 + 4 + 3 * 4


def kept_at(path: Path, keys: np.ndarray = KEYS) -> Kept:
    return Kept(path, keys, (3,), F4)


def rows_of(keys: np.ndarray) -> np.ndarray:
    return np.asarray(keys, np.float32)[:, None] * np.array([1, 2, 3], np.float32)


def filled(path: Path, keys: np.ndarray = KEYS) -> Kept:
    """A file with all rows, as somebody who opens it now sees it."""
    kept = kept_at(path, keys)
    for chunk, _, _ in chunks_to_make([kept], np.arange(len(keys)), 2):
        kept.add(chunk, rows_of(keys[chunk]))
    return kept_at(path, keys)


def test_rows_are_found_by_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    kept = kept_at(path)
    kept.add(np.array([2, 3]), rows_of(KEYS[[2, 3]]))
    assert kept.missing(np.arange(5)).tolist() == [0, 4]
    assert np.array_equal(kept.rows(np.array([1, 2, 3])), rows_of(KEYS[[1, 2, 3]]))

    others = kept_at(path, np.array([1, 99, 40]))
    assert others.missing(np.arange(3)).tolist() == [0, 1]
    others.add(np.array([1]), rows_of(np.array([99])))
    # seen by whoever has the file open
    assert kept.missing(np.arange(5)).tolist() == [0]
    assert np.array_equal(kept.rows(np.array([4])), rows_of(np.array([99])))
    with pytest.raises(ValueError, match=r"^rows that were never made are asked of rows$"):
        kept.rows(np.array([0]))


def test_nothing_is_asked_of_nothing(tmp_path: Path) -> None:
    kept = kept_at(tmp_path / "none")
    assert kept.rows(np.array([], np.int64)).shape == (0, 3)
    empty = kept_at(tmp_path / "none", np.array([], np.int64))
    assert len(empty) == 0
    assert not (tmp_path / "none").exists()


def test_a_row_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    filled(path)
    kept_at(path).add(np.arange(5), rows_of(KEYS))
    assert path.stat().st_size == len(set(KEYS)) * RECORD_BYTES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 4 * RECORD_BYTES))
def test_a_file_that_was_cut_short_is_completed(tmp_path: Path, size: int) -> None:
    path = tmp_path / "rows"
    path.unlink(missing_ok=True)
    filled(path)
    os.truncate(path, size)
    assert len(kept_at(path).missing(np.arange(5))) == 4 - size // RECORD_BYTES
    assert np.array_equal(filled(path).rows(np.arange(5)), rows_of(KEYS))
    assert path.stat().st_size == 4 * RECORD_BYTES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 4 * RECORD_BYTES - 1), bit=st.integers(0, 7))
def test_a_damaged_row_is_made_anew(tmp_path: Path, at: int, bit: int) -> None:
    path = tmp_path / "rows"
    path.unlink(missing_ok=True)
    filled(path)
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    assert len(kept_at(path).missing(np.arange(5))) == 1
    assert np.array_equal(filled(path).rows(np.arange(5)), rows_of(KEYS))


@pytest.mark.parametrize("foreign", [b"", bytes(1000), b"not a row at all" * 100])
def test_a_foreign_file_counts_as_empty(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(foreign)
    zeros = np.array([0, 5])
    assert len(kept_at(path, zeros).missing(np.arange(2))) == 2
    assert np.array_equal(filled(path, zeros).rows(np.arange(2)), rows_of(zeros))


def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    kept = filled(path)
    assert not len(kept.missing(np.arange(5)))
    before = kept.rows(np.arange(5))
    path.unlink()
    # what is mapped stays
    assert np.array_equal(kept.rows(np.arange(5)), before)
    assert np.array_equal(filled(path).rows(np.arange(5)), before)


WORK = """
import sys, time
from pathlib import Path
import numpy as np
from roadrisk.learning.pictures.kept import Kept, chunks_to_make

path, count, mine = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
keys = np.arange(count) * 7
kept = Kept(path, keys, (3,), np.dtype(np.float32))
print("ready", flush=True)
sys.stdin.readline()
if mine:  # every other row, each as soon as it can be
    for index in range(int(mine), count, 2):
        kept.add(np.array([index]), keys[[index], None] * np.array([1.0, 2.0, 3.0]))
    sys.exit()
for chunk, _, _ in chunks_to_make([kept], np.arange(count), 4):
    time.sleep(0.002)
    kept.add(chunk, keys[chunk, None] * np.array([1.0, 2.0, 3.0]))
    print(len(chunk), flush=True)
"""


def at_work(path: Path, count: int, mine: tuple[str, str] = ("", "")) -> list[subprocess.Popen[str]]:
    """Two processes that begin to make rows at the same time: the same, or each every other."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(path), str(count), part],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in mine
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def test_processes_share_the_work(tmp_path: Path) -> None:
    path, keys = tmp_path / "rows", np.arange(400) * 7
    made = []
    for process in at_work(path, 400):
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        made.append(sum(int(number) for number in said.split()))
    assert path.stat().st_size == len(keys) * RECORD_BYTES
    assert np.array_equal(kept_at(path, keys).rows(np.arange(400)), rows_of(keys))
    # both worked, and little was made twice
    assert min(made) > 0
    assert sum(made) < 1.5 * len(keys)


def test_processes_do_not_write_over_each_other(tmp_path: Path) -> None:
    path, keys = tmp_path / "rows", np.arange(3000) * 7
    for process in at_work(path, 3000, ("0", "1")):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert path.stat().st_size == len(keys) * RECORD_BYTES
    assert np.array_equal(kept_at(path, keys).rows(np.arange(3000)), rows_of(keys))


def test_a_process_that_is_killed_harms_nobody(tmp_path: Path) -> None:
    path, keys = tmp_path / "rows", np.arange(400) * 7
    killed, other = at_work(path, 400)
    assert killed.stdout is not None
    killed.stdout.readline()
    killed.kill()
    other.communicate(timeout=60)
    killed.communicate(timeout=60)
    assert (killed.returncode, other.returncode) == (-signal.SIGKILL, 0)
    assert np.array_equal(kept_at(path, keys).rows(np.arange(400)), rows_of(keys))


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from roadrisk.errors import DatasetError
from roadrisk.learning.pictures.kept import Kept

kept = Kept(Path(sys.argv[1]), np.array([70, 10, 40, 10, 99]), (3,), np.dtype(np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 24 + 5, resource.RLIM_INFINITY))
try:
    kept.add(np.arange(5), np.array([70, 10, 40, 10, 99])[:, None] * np.array([1.0, 2.0, 3.0]))
except DatasetError as error:
    print(error)
"""


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "rows"
    ended = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert ended.stdout == (
        f"{path.parent}: cannot keep prepared pictures there (File too large); make room or permit writing\n"
    )
    # what was written before is good, the row that was cut is not
    assert len(kept_at(path).missing(np.arange(5))) == 1
    assert np.array_equal(filled(path).rows(np.arange(5)), rows_of(KEYS))


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(
        DatasetError, match=r"cache: cannot keep prepared pictures there \(.+\); make room or permit writing$"
    ):
        kept_at(tmp_path / "cache" / "rows").add(np.array([0]), rows_of(KEYS[:1]))


class Counting:
    """A mosaic whose tile is its own place, and that counts how often it is read."""

    reads = 0

    def __init__(self) -> None:
        Counting.reads = 0

    def read(self, row: int, col: int) -> np.ndarray:
        Counting.reads += 1
        return np.full((3, 16, 16), (row * 10 + col) % 256, np.uint8)


def mosaic(tiles: list[int], mosaic: str = "checksums", size_px: int = 16) -> MosaicPictures:
    return MosaicPictures(Counting(), np.array(tiles), np.array(tiles) % 2, size_px, mosaic)


def levels(pixels: np.ndarray) -> list[int]:
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def test_pictures_are_prepared_once_and_only_when_asked_for(tmp_path: Path) -> None:
    kept = kept_pictures(CachedPictures(mosaic([0, 1, 2, 3, 4, 5]), tmp_path / "cache"))
    assert levels(kept.prepared(np.array([4, 1]))) == [40, 11]
    assert Counting.reads == 2
    again = kept_pictures(CachedPictures(mosaic([0, 1, 2, 3, 4, 5]), tmp_path / "cache"))
    assert levels(again.prepared(np.array([1, 4, 1, 3]))) == [11, 40, 11, 31]
    assert Counting.reads == 1
    assert again.prepared(np.array([], dtype=np.int64)).shape == (0, 3, 16, 16)


def test_another_list_of_tiles_finds_those_it_shares(tmp_path: Path) -> None:
    some = kept_pictures(CachedPictures(mosaic([1, 3, 5]), tmp_path))
    some.fill(np.arange(3))
    more = kept_pictures(CachedPictures(mosaic([5, 4, 3]), tmp_path))
    assert levels(more.prepared(np.arange(3))) == [51, 40, 31]
    assert Counting.reads == 1


def test_other_pictures_have_another_file(tmp_path: Path) -> None:
    kept = [
        kept_pictures(CachedPictures(pictures, tmp_path)).kept.path
        for pictures in (mosaic([1]), mosaic([1], "other checksums"), mosaic([1], size_px=32))
    ]
    assert len(set(kept)) == 3


def test_what_was_prepared_before_an_interruption_is_kept(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int, note: str = "") -> None:
        assert (stage, total) == ("prepare pictures", 200)
        if done >= 64:
            raise KeyboardInterrupt

    tiles, threads = list(range(200)), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        kept_pictures(CachedPictures(mosaic(tiles), tmp_path)).fill(np.arange(200), interrupt)
    assert threading.active_count() == threads
    again = kept_pictures(CachedPictures(mosaic(tiles), tmp_path))
    left = len(again.kept.missing(np.arange(200)))
    assert 200 - 96 <= left <= 200 - 64
    again.fill(np.arange(200))
    assert Counting.reads == left


def test_a_picture_file_that_changed_is_prepared_again(tmp_path: Path) -> None:
    for name, level in (("a.png", 10), ("b.png", 20), ("c.png", 30)):
        cv2.imwrite(str(tmp_path / name), np.full((16, 16, 3), level, np.uint8))
    first = FilePictures(tmp_path, ("a.png", "b.png"), (0, 1), 16)
    kept = kept_pictures(CachedPictures(first, tmp_path / "cache"))
    assert levels(kept.prepared(np.arange(2))) == [10, 20]
    cv2.imwrite(str(tmp_path / "b.png"), np.full((16, 16, 3), 99, np.uint8))
    os.utime(tmp_path / "b.png", ns=(0, 1))
    # another table of the same folder, too
    other = FilePictures(tmp_path, ("c.png", "b.png", "a.png"), (0, 1, 2), 16)
    kept = kept_pictures(CachedPictures(other, tmp_path / "cache"))
    assert kept.kept.missing(np.arange(3)).tolist() == [0, 1]
    assert levels(kept.prepared(np.arange(3))) == [30, 99, 10]


def test_prefetching_keeps_the_order_and_its_distance() -> None:
    asked: list[int] = []
    names: set[str] = set()

    def jobs() -> Iterator[int]:
        for job in range(20):
            asked.append(job)
            yield job

    def make(job: int) -> int:
        names.add(threading.current_thread().name)
        time.sleep(0.001 * (job % 3))
        return job * job

    for number, made in enumerate(prefetched(make, jobs(), workers=3)):
        assert made == number * number
        assert len(asked) <= number + 1 + 3 * AHEAD
    assert number == 19
    assert threading.current_thread().name not in names


def test_what_is_next_is_made_meanwhile() -> None:
    begun = threading.Event()

    def make(job: int) -> int:
        if job == 1:
            begun.set()
        return job

    made = prefetched(make, range(5))
    assert next(made) == 0
    assert begun.wait(10)


def test_an_error_comes_where_its_result_would_have() -> None:
    def make(job: int) -> int:
        if job == 3:
            raise DatasetError("tile 3 is damaged")
        return job

    threads = threading.active_count()
    made = prefetched(make, range(1000))
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DatasetError, match=r"^tile 3 is damaged$"):
        next(made)
    assert threading.active_count() == threads


def test_leaving_early_ends_the_thread() -> None:
    threads, begun = threading.active_count(), []

    def make(job: int) -> int:
        begun.append(job)
        time.sleep(0.5 if job == 6 else 0)
        return job

    for made in prefetched(make, range(1000)):
        if made == 5:
            break
    assert threading.active_count() == threads
    # what had not begun by then never did
    assert begun == list(range(7))
