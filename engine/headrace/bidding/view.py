"""What decisions are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headrace.bidding.board import Board
from headrace.bidding.predict import BidModel, PersonReader, lay_out, resolve_items
from headrace.kernels.predict import Table
from headrace.types import Int32


@dataclass(frozen=True, slots=True)
class View:
    """What one decision is made from; replaced in whole.

    items : rows of the board's promoted items, -1 where nobody knows one.   table : the model's view of them.
    """

    board: Board
    model: BidModel
    people: PersonReader
    find_item: Callable[[str], int]
    items: Int32
    table: Table

    @classmethod
    def of(cls, board: Board, model: BidModel, people: PersonReader, find_item: Callable[[str], int]) -> View:
        items = resolve_items(board.promoted_ids, find_item)
        return cls(board, model, people, find_item, items, lay_out(model.model, items))
