"""How a training went, epoch by epoch, for those who ask: as Lightning Fabric writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from roadrisk.errors import UsageError
from roadrisk.learning.loop.learner import Epoch

LogKind = Literal["csv", "tensorboard"]
FILES = ("metrics.csv", "events.out.tfevents.*")


@contextmanager
def epoch_log(kind: LogKind | None, folder: Path, name: str) -> Iterator[Callable[[Epoch], None]]:
    """What writes an epoch to `folder/name`: the loss, the watched loss and score, and the seconds.

    A training that goes on from a checkpoint tells its first epochs again, so an earlier log of that name is
    written anew. Of several processes the first one writes.

    Parameters
    ----------
    kind : None writes nothing.
    name : of the run: one training.

    Raises
    ------
    UsageError : TensorBoard is not installed.
    """
    if kind is None:
        yield lambda epoch: None
        return
    if kind == "tensorboard" and find_spec("tensorboard") is None:
        raise UsageError(
            "--log tensorboard needs the package tensorboard; pip install tensorboard, or use --log csv"
        )
    # here, not above: it takes over a second
    from lightning_fabric.loggers.csv_logs import CSVLogger
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only(_removed)(folder / name)
    logger: CSVLogger | TensorBoardLogger
    logger = (CSVLogger if kind == "csv" else TensorBoardLogger)(folder, name, version="")

    def logged(epoch: Epoch) -> None:
        known = {
            "loss": epoch.loss,
            "watched_loss": epoch.watched_loss,
            "watched_score": epoch.watched_score,
            "seconds": epoch.seconds,
        }
        logger.log_metrics({k: v for k, v in known.items() if v is not None}, epoch.number)
        logger.save()

    try:
        yield logged
    finally:
        logger.finalize("")


def _removed(run: Path) -> None:
    for pattern in FILES:
        for old in run.glob(pattern):
            old.unlink()
