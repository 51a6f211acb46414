"""The network that joins pictures and facts, and the four ways to join them.

Every way sees a zero vector where a side is absent, and lets it weigh nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from roadrisk.nets.batch import Batch
from roadrisk.nets.tabular import FactsNN, TabularNN

FusionName = Literal["concat", "mlp", "gate", "attention"]
MLP_WIDTH = 256
TOKEN_WIDTH = 64
HEADS = 4
# of a class token's first values: timm's, for vision transformers
TOKEN_STD = 0.02


class ImageNetwork(Protocol):
    """A module that makes vectors of length `out` from pictures or from their features."""

    out: int

    def __call__(self, pictures: Tensor, /) -> Tensor:
        """(M, ...) -> (M, out)."""


class Lengths(NamedTuple):
    """Lengths of vectors: V of views, one of facts (0 without facts), and that of what is said."""

    views: tuple[int, ...]
    facts: int
    outputs: int

    @property
    def joined(self) -> int:
        return sum(self.views) + self.facts


class Sides(NamedTuple):
    """What is known of B tiles, as vectors.

    Parameters
    ----------
    views : V of (B, length), zero where absent.
    facts : (B, length), zero where absent; None for a network without facts.
    has_image : (B, V) bool.
    has_facts : (B,) bool.
    """

    views: tuple[Tensor, ...]
    facts: Tensor | None
    has_image: Tensor
    has_facts: Tensor

    @property
    def joined(self) -> Tensor:
        """(B, sum of lengths)."""
        facts = () if self.facts is None else (self.facts,)
        return torch.cat([*self.views, *facts], dim=1)


class Concat(nn.Module):
    """A linear layer on the joined vectors: the first version's."""

    def __init__(self, lengths: Lengths) -> None:
        super().__init__()
        self.linear = nn.Linear(lengths.joined, lengths.outputs)

    def forward(self, sides: Sides) -> Tensor:
        """B tiles -> (B, outputs)."""
        return self.linear(sides.joined)  # type: ignore[no-any-return]  # (B, outputs)


class Mlp(nn.Module):
    """One hidden layer on the joined vectors."""

    def __init__(self, lengths: Lengths, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(lengths.joined, MLP_WIDTH)
        self.linear = nn.Linear(MLP_WIDTH, lengths.outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sides: Sides) -> Tensor:
        """B tiles -> (B, outputs)."""
        x = self.dropout(self.hidden(sides.joined).relu())  # (B, 256)
        return self.linear(x)  # type: ignore[no-any-return]  # (B, outputs)


class Gate(nn.Module):
    """The facts weight the views; their weighted mean is joined with the facts.

    A view's gate is 2 sigmoid(w . facts): between 0 and 2, and 1 where the facts say nothing, as in LHUC
    (arXiv:1601.02828). Facts that are absent are a zero vector and the gate has no bias, so all present views
    weigh the same there, as they do before anything is learned. One view alone can be shut, too.
    """

    def __init__(self, lengths: Lengths) -> None:
        super().__init__()
        width = max(lengths.views, default=0)
        self.views = nn.ModuleList(nn.Linear(length, width) for length in lengths.views)
        self.gate = (
            nn.Linear(lengths.facts, len(lengths.views), bias=False) if width and lengths.facts else None
        )
        self.linear = nn.Linear(width + lengths.facts, lengths.outputs)
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)

    def forward(self, sides: Sides) -> Tensor:
        """B tiles -> (B, outputs)."""
        parts = [] if sides.facts is None else [sides.facts]
        if sides.views:
            views = [project(view) for project, view in zip(self.views, sides.views, strict=True)]
            seen = torch.stack(views, dim=1)  # (B, V, width)
            parts.insert(0, (self.weights(sides).unsqueeze(2) * seen).sum(dim=1))  # (B, width)
        return self.linear(torch.cat(parts, dim=1))  # type: ignore[no-any-return]  # (B, outputs)

    def weights(self, sides: Sides) -> Tensor:
        """(B, V): of each view; 0 where it is absent."""
        present = sides.has_image.to(sides.views[0].dtype)  # (B, V)
        share = present / present.sum(dim=1, keepdim=True).clamp(min=1)  # (B, V)
        if self.gate is None:
            return share
        return 2 * self.gate(sides.facts).sigmoid() * share  # type: ignore[no-any-return]  # (B, V)


class Attention(nn.Module):
    """Views and facts as tokens, and a learned one that asks them and itself.

    It always answers, so a tile of which nothing is known has an output: the same for all of them.
    """

    def __init__(self, lengths: Lengths, dropout: float) -> None:
        super().__init__()
        self.views = nn.ModuleList(nn.Linear(length, TOKEN_WIDTH) for length in lengths.views)
        self.facts = nn.Linear(lengths.facts, TOKEN_WIDTH) if lengths.facts else None
        self.query = nn.Parameter(torch.randn(1, 1, TOKEN_WIDTH) * TOKEN_STD)
        self.norm = nn.LayerNorm(TOKEN_WIDTH)
        self.attention = nn.MultiheadAttention(TOKEN_WIDTH, HEADS, batch_first=True)
        self.hidden = nn.Linear(TOKEN_WIDTH, 2 * TOKEN_WIDTH)
        self.linear = nn.Linear(2 * TOKEN_WIDTH, lengths.outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sides: Sides) -> Tensor:
        """B tiles -> (B, outputs)."""
        known = [project(view) for project, view in zip(self.views, sides.views, strict=True)]
        absent = ~sides.has_image  # (B, V)
        if self.facts is not None:
            known.append(self.facts(sides.facts))
            absent = torch.cat([absent, ~sides.has_facts.unsqueeze(1)], dim=1)  # (B, V + 1)
        query = self.query.expand(len(absent), 1, TOKEN_WIDTH)  # (B, 1, 64)
        tokens = self.norm(torch.cat([query, torch.stack(known, dim=1)], dim=1))  # (B, 1 + sides, 64)
        masked = torch.cat([absent.new_zeros(len(absent), 1), absent], dim=1)  # (B, 1 + sides)
        x, _ = self.attention(
            tokens[:, :1], tokens, tokens, key_padding_mask=masked, need_weights=False
        )  # (B, 1, 64)
        x = self.dropout(self.hidden(x.squeeze(1)).relu())  # (B, 128)
        return self.linear(x)  # type: ignore[no-any-return]  # (B, outputs)


class MultiModalNN(nn.Module):
    """Views and facts side by side, joined into what is said of a tile.

    Its state has plain names: `image.<i>.…` of the i-th image branch, `facts.…`, `fusion.…` and, with a
    dispersion, `log_dispersion`. A branch that several views share is there once, where the first of them
    stands: with one branch for all views there is `image.0` alone.

    Parameters
    ----------
    image : what makes a vector of each view's pictures, one for each view; the same one where views share it.
        Empty for a network of facts alone.
    facts : what makes a vector of the facts; None for a network of pictures alone.
    fusion : how vectors are joined.
    outputs : K numbers said of a tile.
    dispersed : whether it learns the log of the dispersion k besides, the same for all tiles
        (variance = mean + k mean^2). First k = 1, the default of statsmodels' NegativeBinomial family.
    dropout : share of activations dropped in the hidden layer of `mlp` and `attention`.
    modality_dropout : share of tiles with both sides that lose one of them while training.

    Raises
    ------
    ValueError : it sees nothing.

    Examples
    --------
    >>> from roadrisk.nets.image import BasicCNN
    >>> image, facts = BasicCNN(dropout=0.3), TabularNN(20, dropout=0.3)
    >>> plain = {"dispersed": False, "dropout": 0.3, "modality_dropout": 0.0}
    >>> network = MultiModalNN([image], facts, "concat", 1, **plain)
    >>> sum(p.numel() for p in network.parameters())
    1038493
    """

    def __init__(
        self,
        image: Sequence[ImageNetwork],
        facts: TabularNN | FactsNN | None,
        fusion: FusionName,
        outputs: int,
        *,
        dispersed: bool,
        dropout: float,
        modality_dropout: float,
    ) -> None:
        super().__init__()
        if not image and facts is None:
            raise ValueError("a network needs an image branch, a facts branch or both")
        branches = list(dict.fromkeys(image))
        self.branch_of_view = tuple(branches.index(branch) for branch in image)
        self.lengths = Lengths(tuple(branch.out for branch in image), facts.out if facts else 0, outputs)
        self.image = nn.ModuleList(cast("list[nn.Module]", branches))
        self.facts = facts
        self.fusion = _fusion(fusion, self.lengths, dropout)
        self.log_dispersion = nn.Parameter(torch.zeros(())) if dispersed else None
        self.modality_dropout = modality_dropout

    def forward(self, batch: Batch) -> Tensor:
        """What is said of B tiles.

        A branch runs only on what exists: what stands in `batch` for absent facts has no influence, and no
        gradient.

        Returns
        -------
        (B, outputs), or (B, outputs + 1) with the log of the dispersion last.
        """
        if self.training and self.modality_dropout and len(self.image) and self.facts is not None:
            batch = one_side_dropped(batch, self.modality_dropout)
        facts = None
        if self.facts is not None:
            rows = batch.has_facts.nonzero().squeeze(1)  # (M,)
            facts = _placed(self.facts(batch.numbers[rows], batch.codes[rows]), rows, len(batch.has_facts))
        said: Tensor = self.fusion(Sides(self._views(batch), facts, batch.has_image, batch.has_facts))
        if self.log_dispersion is None:
            return said  # (B, outputs)
        return torch.cat([said, self.log_dispersion.expand(len(said), 1)], dim=1)  # (B, outputs + 1)

    def _views(self, batch: Batch) -> tuple[Tensor, ...]:
        """V of (B, length): pictures of one shape go through a branch that they share in one pass."""
        passes: dict[tuple[int, torch.Size], list[int]] = {}
        for view, (branch, pictures) in enumerate(zip(self.branch_of_view, batch.pictures, strict=True)):
            if len(pictures):
                passes.setdefault((branch, pictures.shape[1:]), []).append(view)
        nothing = self.fusion.linear.weight.new_zeros
        seen = [nothing(len(batch.has_image), length) for length in self.lengths.views]
        # fewest last: a pass of one picture keeps running statistics for its gradient, which a later pass
        # of more through the same branch would move
        for (branch, _), views in sorted(passes.items(), key=lambda one: -_count(batch, one[1])):
            shown = [batch.pictures[view] for view in views]
            vectors = _seen(self.image[branch], torch.cat(shown) if len(shown) > 1 else shown[0])
            for view, part in zip(views, torch.split(vectors, [len(one) for one in shown]), strict=True):
                rows = batch.has_image[:, view].nonzero().squeeze(1)  # (M,)
                seen[view] = _placed(part, rows, len(batch.has_image))  # (B, length)
        return tuple(seen)


def one_side_dropped(batch: Batch, share: float) -> Batch:
    """The batch with the pictures or the facts of some tiles gone, and never both.

    ModDrop (Neverova et al. 2016, arXiv:1501.00102), so that each side learns to do without the other.

    Parameters
    ----------
    share : of the tiles with both sides; half of them lose all pictures, half the facts. Drawn by torch's
        generator of the device the batch is on.
    """
    both = batch.has_facts & batch.has_image.any(dim=1)  # (B,)
    draw = torch.rand(len(both), device=both.device)  # (B,)
    unseen = both & (draw < share / 2)
    unread = both & (draw >= share / 2) & (draw < share)
    pictures = tuple(
        shown[~unseen[has]] for shown, has in zip(batch.pictures, batch.has_image.unbind(dim=1), strict=True)
    )
    return batch._replace(
        has_facts=batch.has_facts & ~unread,
        pictures=pictures,
        has_image=batch.has_image & ~unseen.unsqueeze(1),
    )


def _fusion(name: FusionName, lengths: Lengths, dropout: float) -> Concat | Mlp | Gate | Attention:
    match name:
        case "concat":
            return Concat(lengths)
        case "mlp":
            return Mlp(lengths, dropout)
        case "gate":
            return Gate(lengths)
        case "attention":
            return Attention(lengths, dropout)


def _count(batch: Batch, views: list[int]) -> int:
    return sum(len(batch.pictures[view]) for view in views)


def _placed(vectors: Tensor, rows: Tensor, tiles: int) -> Tensor:
    """(M, length) at M rows of (tiles, length), which is zero elsewhere."""
    return vectors.new_zeros(tiles, vectors.shape[1]).index_copy(0, rows, vectors)


def _seen(branch: nn.Module, pictures: Tensor) -> Tensor:
    """(M, ...) -> (M, length)."""
    if len(pictures) > 1:
        return branch(pictures)  # type: ignore[no-any-return]
    with _running_statistics(branch):
        return branch(pictures)  # type: ignore[no-any-return]


@contextmanager
def _running_statistics(branch: nn.Module) -> Iterator[None]:
    """Batch norm as in evaluation: one picture is no batch, and torch refuses one with maps of 1 x 1."""
    learning = [
        module
        for module in branch.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.training
    ]
    for module in learning:
        module.eval()
    try:
        yield
    finally:
        for module in learning:
            module.train()
