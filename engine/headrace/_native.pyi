"""Headrace's compiled core."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

class ItemRows:
    def __init__(self, offsets: npt.NDArray[np.int64], blob: npt.NDArray[np.uint8]) -> None: ...
    def __len__(self) -> int: ...
    def id(self, row: int) -> str: ...
    def find(self, item_id: str) -> int: ...
    def add(self, item_id: str) -> int: ...
    def price(self, row: int) -> int: ...
    def set_price(self, row: int, price_micros: int) -> None: ...
    def json_ids(self, rows: npt.NDArray[np.int32]) -> str: ...

class HmacKey:
    def __init__(self, secret: bytes) -> None: ...
    def mac(self, data: bytes) -> bytes: ...
    def sign(self, bodies: bytes, size: int, mac_bytes: int) -> list[str]: ...

def count_messages(field: int, message: bytes) -> int: ...
def read_slate_requests(
    bodies: list[bytes],
    items: ItemRows,
    max_id_bytes: int,
    max_label_bytes: int,
    max_exclusions: int,
    max_session: int,
    max_limit: int,
    default_limit: int,
    n_policies: int,
) -> tuple[
    list[str],
    list[str],
    list[int],
    npt.NDArray[np.int32],
    npt.NDArray[np.int8],
    npt.NDArray[np.int64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int8],
    npt.NDArray[np.int64],
]: ...
def split_slate_batch(body: bytes) -> list[bytes] | None: ...
def join_slate_batch(responses: list[bytes]) -> bytes: ...
def write_slates(
    items: ItemRows,
    request_ids: list[str],
    artifact_version: str,
    event_sequence: int,
    tiers: npt.NDArray[np.int32],
    cold_tier: int,
    rows: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int32],
) -> list[bytes]: ...

class Links:
    def __init__(
        self, indptr: npt.NDArray[np.int64], items: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]
    ) -> None: ...

class Blend:
    def __init__(
        self,
        items: Links,
        item_weight: float,
        new_item_weight: float,
        power: float,
        half_life_days: float,
        length_power: float,
        session: Links,
        session_weight: float,
        session_ms: float,
        decay: npt.NDArray[np.float32],
    ) -> None: ...

class Retriever:
    def __init__(
        self,
        factors: npt.NDArray[np.float32],
        popular_order: npt.NDArray[np.int32],
        popularity: npt.NDArray[np.float32],
        repeat_boost: float,
        repeat_days: float,
        pause: Callable[[], None] | None = None,
        blend: Blend | None = None,
        lists: tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], int, bool] | None = None,
    ) -> None: ...
    def with_items(self, rows: npt.NDArray[np.int32], factors: npt.NDArray[np.float32]) -> Retriever: ...
    def without_items(self, rows: npt.NDArray[np.int32]) -> Retriever: ...
    def search(
        self,
        vectors: npt.NDArray[np.float32],
        filter: npt.NDArray[np.uint64] | None,
        rows: npt.NDArray[np.int32],
        scores: npt.NDArray[np.float32],
        exact: npt.NDArray[np.int8],
        probes: int = 0,
    ) -> None: ...
    @property
    def n_bytes(self) -> int: ...
    @property
    def n_added(self) -> int: ...
    def retrieve(
        self,
        vectors: npt.NDArray[np.float32],
        warm: npt.NDArray[np.int8],
        limits: npt.NDArray[np.int32],
        exclude_purchased: npt.NDArray[np.int8],
        history: npt.NDArray[np.int64],
        history_rows: npt.NDArray[np.int32],
        n_bought: npt.NDArray[np.float32],
        last_bought_ms: npt.NDArray[np.int64],
        last_event_ms: npt.NDArray[np.int64],
        excluded: npt.NDArray[np.int64],
        excluded_rows: npt.NDArray[np.int32],
        candidates: npt.NDArray[np.int64] | None,
        candidate_rows: npt.NDArray[np.int64] | None,
        barred: npt.NDArray[np.uint32],
        rows: npt.NDArray[np.int32],
        scores: npt.NDArray[np.float32],
        counts: npt.NDArray[np.int32],
        found: npt.NDArray[np.int32],
        history_weights: npt.NDArray[np.float32] | None = None,
        history_last_ms: npt.NDArray[np.int64] | None = None,
        now_ms: int = 0,
        exact: npt.NDArray[np.int8] | None = None,
    ) -> None: ...

FOLD_LANES: int

def fold_in(
    gram: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    indptr: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    confidences: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None: ...

class Embeddings:
    def __init__(self, gram: npt.NDArray[np.float32], items: npt.NDArray[np.float32], capacity: int) -> None: ...
    def of(
        self,
        indptr: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int32],
        confidences: npt.NDArray[np.float32],
        out: npt.NDArray[np.float32],
    ) -> None: ...
    @property
    def n_folded(self) -> int: ...

def rank_factors(
    user_factors: npt.NDArray[np.float32],
    item_factors: npt.NDArray[np.float32],
    users: npt.NDArray[np.int32],
    masked_indptr: npt.NDArray[np.int64] | None,
    masked: npt.NDArray[np.int32] | None,
    n_threads: int,
    items: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
) -> bool: ...
def rank_products(
    left_indptr: npt.NDArray[np.int64],
    left_columns: npt.NDArray[np.int32],
    left_values: npt.NDArray[np.float32],
    right_indptr: npt.NDArray[np.int64],
    right_columns: npt.NDArray[np.int32],
    right_values: npt.NDArray[np.float32],
    n_items: int,
    users: npt.NDArray[np.int32],
    masked_indptr: npt.NDArray[np.int64] | None,
    masked: npt.NDArray[np.int32] | None,
    n_threads: int,
    items: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
) -> bool: ...
def gather(
    known_indptr: npt.NDArray[np.int64],
    known_rows: npt.NDArray[np.int32],
    known_types: npt.NDArray[np.int8],
    known_weights: npt.NDArray[np.float32],
    known_times_ms: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    types: npt.NDArray[np.int8],
    counts: npt.NDArray[np.float32],
    times_ms: npt.NDArray[np.int64],
    users: npt.NDArray[np.int32],
    slots: npt.NDArray[np.int32],
    type_weights: npt.NDArray[np.float32],
    where: npt.NDArray[np.int32],
    indptr: npt.NDArray[np.int64],
    out_rows: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    n_bought: npt.NDArray[np.float32],
    last_ms: npt.NDArray[np.int64],
    last_bought_ms: npt.NDArray[np.int64],
    n_events: npt.NDArray[np.float32],
    last_event_ms: npt.NDArray[np.int64],
) -> None: ...
def fold_in_input(
    indptr: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    last_ms: npt.NDArray[np.int64],
    n_items: int,
    alpha: float,
    max_history: int,
    out_indptr: npt.NDArray[np.int64],
    out_rows: npt.NDArray[np.int32],
    confidences: npt.NDArray[np.float32],
) -> None: ...
def scan_passes() -> list[str]: ...
def use_scan_pass(name: str) -> None: ...

ALS_LANES: int

def als_gram(factors: npt.NDArray[np.float32], out: npt.NDArray[np.float64], n_threads: int) -> None: ...
def als_turn(factors: npt.NDArray[np.float32], rotation: npt.NDArray[np.float32], n_threads: int) -> None: ...
def als_solve(
    indptr: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int32],
    confidences: npt.NDArray[np.float32],
    fixed: npt.NDArray[np.float32],
    spectrum: npt.NDArray[np.float32],
    ridge: npt.NDArray[np.float32],
    factors: npt.NDArray[np.float32],
    n_steps: int,
    n_threads: int,
) -> None: ...
def als_loss(
    indptr: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int32],
    confidences: npt.NDArray[np.float32],
    fixed: npt.NDArray[np.float32],
    factors: npt.NDArray[np.float32],
    n_threads: int,
) -> float: ...
def als_passes() -> list[str]: ...
def use_als_pass(name: str) -> None: ...

class ReservationImage:
    @property
    def readable(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    @property
    def ledger(self) -> int: ...
    @property
    def boot(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    def __len__(self) -> int: ...

def read_reservations(path: str) -> ReservationImage: ...

class Ledger:
    def __init__(
        self,
        lease_share: int,
        lease_max_micros: int,
        max_bid_cpm_micros: int,
        max_micros_per_minute: int,
        expire_after_ms: int,
    ) -> None: ...
    def put_account(
        self,
        account: int,
        parent: int,
        limits: list[int],
        flight: list[int],
        zone: int,
        mode: int,
        expire_after_ms: int,
    ) -> None: ...
    def set_zone_day(self, zone: int, day: int, start_ms: int, end_ms: int) -> None: ...
    def set_brake_all(self, engaged: bool) -> None: ...
    def set_brake_exchange(self, exchange: int, engaged: bool) -> None: ...
    def set_brake_advertiser(self, account: int, engaged: bool) -> None: ...
    def set_closed(self, reason: int) -> None: ...
    def hold_to_allotments(self) -> None: ...
    def set_allotments(
        self, leaves: npt.NDArray[np.int32], days: npt.NDArray[np.int32], micros: npt.NDArray[np.int64]
    ) -> None: ...
    def give_back(self, leaves: npt.NDArray[np.int32], days: npt.NDArray[np.int32]) -> None: ...
    def allotted_books(self, leaves: npt.NDArray[np.int32], days: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]: ...
    def leaf_days(self) -> npt.NDArray[np.int64]: ...
    def freeze(self) -> None: ...
    def take_tripped(self) -> list[int]: ...
    def reserve(
        self,
        accounts: npt.NDArray[np.int32],
        cpm: npt.NDArray[np.int64],
        exchanges: npt.NDArray[np.int32],
        now_ms: int,
        issued_ms: int,
        reasons: npt.NDArray[np.int8],
        leases: npt.NDArray[np.int64],
        serials: npt.NDArray[np.int64],
        days: npt.NDArray[np.int32],
    ) -> int: ...
    def plan(self, now_ms: int, first_lease_id: int) -> list[int]: ...
    def activate(self, leases: list[int]) -> None: ...
    def release(self, leases: npt.NDArray[np.int64], serials: npt.NDArray[np.int64], now_ms: int) -> int: ...
    def recall(self, account: int) -> None: ...
    def recall_stale(self) -> None: ...
    def settle(
        self,
        kinds: npt.NDArray[np.int8],
        accounts: npt.NDArray[np.int32],
        leases: npt.NDArray[np.int64],
        serials: npt.NDArray[np.int64],
        days: npt.NDArray[np.int32],
        cpm: npt.NDArray[np.int64],
        prices: npt.NDArray[np.int64],
        exchanges: npt.NDArray[np.uint16],
        now_ms: int,
        outcomes: npt.NDArray[np.int8],
    ) -> int: ...
    def expire(self, now_ms: int) -> int: ...
    def confirm(self, ticket: int) -> None: ...
    def close_pool(self, lease: int) -> bool: ...
    def take_records(self) -> bytes: ...
    def replay(self, records: bytes) -> None: ...
    def restate_in_force(self) -> None: ...
    def finish_replay(self, image: ReservationImage, trusted: bool, now_ms: int) -> None: ...
    def attach(self, path: str, epoch: int, ledger_id: int, boot: int, sequence: int) -> None: ...
    def mark_committed(self, sequence: int) -> None: ...
    def record_open(self) -> None: ...
    def snapshot(self) -> tuple[bytes, bytes]: ...
    def retirable(self, before_ms: int) -> list[int]: ...
    def lease_records(self, lease: int) -> bytes: ...
    def forget(self, leases: list[int]) -> None: ...
    def restore(self, records: bytes) -> None: ...
    def has_lease(self, lease: int) -> bool: ...
    def take_unknown_lease(self) -> bool: ...
    def spendable(self, accounts: npt.NDArray[np.int32], now_ms: int, out: npt.NDArray[np.int64]) -> None: ...
    def spent(self, accounts: npt.NDArray[np.int32], today: bool, out: npt.NDArray[np.int64]) -> None: ...
    def reports(self, stranded_before_ms: int) -> npt.NDArray[np.int64]: ...
    def first_violation(self) -> int: ...
    def last_lease(self) -> int: ...
    def open_reservations(self) -> int: ...

class BidBoard:
    def __init__(
        self,
        vocabularies: tuple[dict[str, int], dict[str, int], dict[str, int]],
        currencies: dict[str, int],
        names: list[tuple[str, str, str]],
        items: list[str],
        item_indptr: npt.NDArray[np.int64],
    ) -> None: ...

class BidCalls:
    def __init__(self, kind: int, bodies: list[bytes]) -> None: ...
    def latest_ms(self) -> int: ...
    def judge(self, now_ms: int, earliest_ms: int, latest_ms: int) -> None: ...
    def errors(self) -> list[tuple[int, int, str, str, object, str, str]]: ...
    def columns(
        self,
    ) -> tuple[
        list[str],
        list[str],
        npt.NDArray[np.int64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.uint32],
        npt.NDArray[np.int32],
        npt.NDArray[np.uint64],
        npt.NDArray[np.int32],
        npt.NDArray[np.int64],
        list[str],
    ]: ...
    def currencies(self) -> list[str]: ...
    def terms(self, board: BidBoard) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]: ...
    def answers(
        self,
        board: BidBoard,
        version: str,
        reasons: npt.NDArray[np.int8],
        tokens: list[str | None],
        bid_cpm: npt.NDArray[np.int64],
        lines: npt.NDArray[np.int32],
        positions: npt.NDArray[np.int32],
        value_cpm: npt.NDArray[np.int64],
        probability: npt.NDArray[np.float64],
    ) -> list[bytes]: ...
    def refusals(self, reason: int, version: str) -> list[bytes]: ...

class NoticeCalls:
    def __init__(self, bodies: list[bytes]) -> None: ...
    def errors(self) -> list[tuple[int, int, str, str, object, str, str]]: ...
    def columns(
        self,
    ) -> tuple[npt.NDArray[np.int8], list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...
    def answers(self, outcomes: npt.NDArray[np.int8]) -> list[bytes]: ...

def hash_texts(texts: list[str]) -> npt.NDArray[np.uint64]: ...
def bid_tokens(kind: int, answers: list[bytes]) -> list[str]: ...
