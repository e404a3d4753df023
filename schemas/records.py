"""The rows of every topic as they stand in JSON.  Made by `make records` from schemas/*.sql: do not edit."""

from typing import NamedTuple, TypedDict


class Column(NamedTuple):
    sql_type: str
    nullable: bool


class Table(NamedTuple):
    topic: str
    key: tuple[str, ...]  # columns, joined by a colon
    is_compacted: bool
    columns: dict[str, Column]


class AccountMarginRow(TypedDict):
    account: str
    event_at: str
    model: str
    equity_usd: float | None
    initial_margin_usd: float | None
    maintenance_margin_usd: float | None
    margin_ratio: float | None
    status: str
    reason: str | None


class BalancesRow(TypedDict):
    account: str
    currency: str
    event_at: str
    received_at: str
    amount: str
    cause_id: str


class BookTopsRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    sequence: int
    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None
    is_stale: bool


class DeadLettersRow(TypedDict):
    source: str
    partition: int | None
    offset: int
    event_at: str
    field: str | None
    expected: str
    got: str | None
    original: str


class FeedFaultsRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    kind: str
    sequence: int | None
    expected: str | None
    got: str | None


class FillsRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    received_at: str
    fill_id: str
    side: str
    price: str
    size: str
    fee: str


class IndexPricesRow(TypedDict):
    venue: str
    underlying: str
    event_at: str
    received_at: str
    price_usd: float
    confidence_usd: float | None


class InstrumentsRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    kind: str
    underlying: str
    quote_currency: str
    settlement_currency: str
    is_inverse: bool
    option_type: str | None
    strike_usd: float | None
    expiry_at: str | None
    last_trading_at: str | None
    contract_size: float | None
    tick_size: float | None


class LiquidationOrdersRow(TypedDict):
    order_id: str
    account: str
    event_at: str
    venue: str
    instrument: str
    side: str
    size: float
    mark_price: float
    equity_usd: float
    maintenance_margin_usd: float
    reason: str


class OptionGreeksRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    underlying: str | None
    option_type: str | None
    strike_usd: float | None
    expiry_at: str | None
    forward_usd: float | None
    mark_iv: float | None
    price_coin: float | None
    delta: float | None
    gamma: float | None
    vega: float | None
    theta: float | None
    rho: float | None
    reason: str | None


class OrderBooksRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    kind: str
    sequence: int
    prev_sequence: int | None
    bids: list[list[float]]
    asks: list[list[float]]
    checksum: int | None


class PositionsRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    received_at: str
    size: str
    average_price: str | None
    realised_pnl: str
    settlement_currency: str
    fill_id: str


class TickersRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    sequence: int | None
    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None
    last_price: float | None
    mark_price: float | None
    mark_iv: float | None
    bid_iv: float | None
    ask_iv: float | None
    forward_usd: float | None
    index_price_usd: float | None
    interest_rate: float | None
    open_interest: float | None
    min_price: float | None
    max_price: float | None


class TradesRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    trade_id: str
    side: str
    price: float
    size: float


class TransfersRow(TypedDict):
    account: str
    event_at: str
    received_at: str
    transfer_id: str
    currency: str
    amount: str


TABLES: dict[str, Table] = {
    "account_margin": Table(
        "account_margin.v1",
        ("account",),
        False,
        {
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "model": Column("STRING", False),
            "equity_usd": Column("DOUBLE", True),
            "initial_margin_usd": Column("DOUBLE", True),
            "maintenance_margin_usd": Column("DOUBLE", True),
            "margin_ratio": Column("DOUBLE", True),
            "status": Column("STRING", False),
            "reason": Column("STRING", True),
        },
    ),
    "balances": Table(
        "balances.v1",
        ("account",),
        False,
        {
            "account": Column("STRING", False),
            "currency": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "amount": Column("DECIMAL(38, 18)", False),
            "cause_id": Column("STRING", False),
        },
    ),
    "book_tops": Table(
        "book_tops.v1",
        ("venue", "instrument"),
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "sequence": Column("BIGINT", False),
            "bid_price": Column("DOUBLE", True),
            "bid_size": Column("DOUBLE", True),
            "ask_price": Column("DOUBLE", True),
            "ask_size": Column("DOUBLE", True),
            "is_stale": Column("BOOLEAN", False),
        },
    ),
    "dead_letters": Table(
        "dead_letters.v1",
        ("source",),
        False,
        {
            "source": Column("STRING", False),
            "partition": Column("INT", True),
            "offset": Column("BIGINT", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "field": Column("STRING", True),
            "expected": Column("STRING", False),
            "got": Column("STRING", True),
            "original": Column("BYTES", False),
        },
    ),
    "feed_faults": Table(
        "feed_faults.v1",
        ("venue", "instrument"),
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "kind": Column("STRING", False),
            "sequence": Column("BIGINT", True),
            "expected": Column("STRING", True),
            "got": Column("STRING", True),
        },
    ),
    "fills": Table(
        "fills.v1",
        ("account",),
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "fill_id": Column("STRING", False),
            "side": Column("STRING", False),
            "price": Column("DECIMAL(38, 18)", False),
            "size": Column("DECIMAL(38, 18)", False),
            "fee": Column("DECIMAL(38, 18)", False),
        },
    ),
    "index_prices": Table(
        "index_prices.v1",
        ("venue", "underlying"),
        False,
        {
            "venue": Column("STRING", False),
            "underlying": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "price_usd": Column("DOUBLE", False),
            "confidence_usd": Column("DOUBLE", True),
        },
    ),
    "instruments": Table(
        "instruments.v1",
        ("venue", "instrument"),
        True,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "kind": Column("STRING", False),
            "underlying": Column("STRING", False),
            "quote_currency": Column("STRING", False),
            "settlement_currency": Column("STRING", False),
            "is_inverse": Column("BOOLEAN", False),
            "option_type": Column("STRING", True),
            "strike_usd": Column("DOUBLE", True),
            "expiry_at": Column("TIMESTAMP_LTZ(3)", True),
            "last_trading_at": Column("TIMESTAMP_LTZ(3)", True),
            "contract_size": Column("DOUBLE", True),
            "tick_size": Column("DOUBLE", True),
        },
    ),
    "liquidation_orders": Table(
        "liquidation_orders.v1",
        ("account",),
        False,
        {
            "order_id": Column("STRING", False),
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "side": Column("STRING", False),
            "size": Column("DOUBLE", False),
            "mark_price": Column("DOUBLE", False),
            "equity_usd": Column("DOUBLE", False),
            "maintenance_margin_usd": Column("DOUBLE", False),
            "reason": Column("STRING", False),
        },
    ),
    "option_greeks": Table(
        "option_greeks.v1",
        ("venue", "instrument"),
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "underlying": Column("STRING", True),
            "option_type": Column("STRING", True),
            "strike_usd": Column("DOUBLE", True),
            "expiry_at": Column("TIMESTAMP_LTZ(3)", True),
            "forward_usd": Column("DOUBLE", True),
            "mark_iv": Column("DOUBLE", True),
            "price_coin": Column("DOUBLE", True),
            "delta": Column("DOUBLE", True),
            "gamma": Column("DOUBLE", True),
            "vega": Column("DOUBLE", True),
            "theta": Column("DOUBLE", True),
            "rho": Column("DOUBLE", True),
            "reason": Column("STRING", True),
        },
    ),
    "order_books": Table(
        "order_books.v1",
        ("venue", "instrument"),
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "kind": Column("STRING", False),
            "sequence": Column("BIGINT", False),
            "prev_sequence": Column("BIGINT", True),
            "bids": Column("ARRAY<ARRAY<DOUBLE>>", False),
            "asks": Column("ARRAY<ARRAY<DOUBLE>>", False),
            "checksum": Column("INT", True),
        },
    ),
    "positions": Table(
        "positions.v1",
        ("account",),
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "size": Column("DECIMAL(38, 18)", False),
            "average_price": Column("DECIMAL(38, 18)", True),
            "realised_pnl": Column("DECIMAL(38, 18)", False),
            "settlement_currency": Column("STRING", False),
            "fill_id": Column("STRING", False),
        },
    ),
    "tickers": Table(
        "tickers.v1",
        ("venue", "instrument"),
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "sequence": Column("BIGINT", True),
            "bid_price": Column("DOUBLE", True),
            "bid_size": Column("DOUBLE", True),
            "ask_price": Column("DOUBLE", True),
            "ask_size": Column("DOUBLE", True),
            "last_price": Column("DOUBLE", True),
            "mark_price": Column("DOUBLE", True),
            "mark_iv": Column("DOUBLE", True),
            "bid_iv": Column("DOUBLE", True),
            "ask_iv": Column("DOUBLE", True),
            "forward_usd": Column("DOUBLE", True),
            "index_price_usd": Column("DOUBLE", True),
            "interest_rate": Column("DOUBLE", True),
            "open_interest": Column("DOUBLE", True),
            "min_price": Column("DOUBLE", True),
            "max_price": Column("DOUBLE", True),
        },
    ),
    "trades": Table(
        "trades.v1",
        ("venue", "instrument"),
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "trade_id": Column("STRING", False),
            "side": Column("STRING", False),
            "price": Column("DOUBLE", False),
            "size": Column("DOUBLE", False),
        },
    ),
    "transfers": Table(
        "transfers.v1",
        ("account",),
        False,
        {
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "transfer_id": Column("STRING", False),
            "currency": Column("STRING", False),
            "amount": Column("DECIMAL(38, 18)", False),
        },
    ),
}
