"""What can go wrong, one leaf for each thing a user can mend.

Every message is one line: what, where, what to do. The command line prints it and exits 1;
anything that is not a `RoadriskError` is a bug and shows its traceback.
"""


class RoadriskError(Exception):
    """The root: catch this to catch everything the library raises on purpose."""


class GridError(RoadriskError):
    """A box, zoom, cell or tile size that makes no grid."""


class RegionError(RoadriskError):
    """A region file or its flags do not fit the schema."""


class SourceError(RoadriskError):
    """A source cannot be read, or what it holds cannot be used."""


class DatasetError(RoadriskError):
    """A dataset folder is missing, unfinished, foreign, locked or lacks something."""


class ModelError(RoadriskError):
    """A model folder, its weights or its settings do not fit."""


class LayerError(RoadriskError):
    """A layer cannot be written as asked."""


class UsageError(RoadriskError):
    """Settings that contradict each other; the command line exits 2."""
