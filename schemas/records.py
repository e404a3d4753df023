"""The rows of every topic as they stand in JSON.  Made by `make records` from schemas/*.sql: do not edit."""

from typing import NamedTuple, NotRequired, TypedDict


class Column(NamedTuple):
    sql_type: str
    nullable: bool


class Table(NamedTuple):
    topic: str
    key: tuple[str, ...]  # columns, joined by a colon
    is_compacted: bool
    is_exactly_once: bool  # no record of it shows twice to those who read what is committed
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
    worst_scenario: str | None
    worst_loss_usd: float | None
    liquidation_probability_1h: float | None
    liquidation_probability_24h: float | None
    liquidation_probability_7d: float | None
    liquidation_probability_1h_error: float | None
    liquidation_probability_24h_error: float | None
    liquidation_probability_7d_error: float | None


class AlgorithmRequestsRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    client_order_id: str
    orig_client_order_id: str | None
    parent_client_order_id: str | None
    request: str
    source: str
    owner_group: str | None
    side: str | None
    order_type: str | None
    time_in_force: str | None
    price: str | None
    quantity: str | None
    is_reduce_only: bool | None
    expires_at: str | None
    max_notional_usd: float | None
    reason: str | None


class BalancesRow(TypedDict):
    account: str
    currency: str
    event_at: str
    received_at: str
    amount: str
    cause_id: str
    margin_model: str | None


class BarsRow(TypedDict):
    venue: str
    instrument: str
    interval_s: int
    start_at: str
    event_at: str
    open_price: float | None
    high_price: float | None
    low_price: float | None
    close_price: float | None
    volume: float | None
    vwap: float | None
    trade_count: int


class BookDepthRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    sequence: int | None
    bids: list[list[float]]
    asks: list[list[float]]
    is_stale: bool


class BookMetricsRow(TypedDict):
    venue: str
    instrument: str
    interval_s: int
    event_at: str
    is_stale: bool
    mid_price: float | None
    spread: float | None
    spread_bps: float | None
    micro_price: float | None
    imbalance: float | None
    order_flow_imbalance: float | None
    bid_depth_5bps: float | None
    bid_depth_10bps: float | None
    bid_depth_25bps: float | None
    bid_depth_50bps: float | None
    ask_depth_5bps: float | None
    ask_depth_10bps: float | None
    ask_depth_25bps: float | None
    ask_depth_50bps: float | None
    bid_reach_bps: float | None
    ask_reach_bps: float | None
    sell_slippage_10k_bps: float | None
    sell_slippage_100k_bps: float | None
    sell_slippage_1m_bps: float | None
    buy_slippage_10k_bps: float | None
    buy_slippage_100k_bps: float | None
    buy_slippage_1m_bps: float | None


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


class ChainGreeksRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    underlying: str
    option_type: str
    strike_usd: float
    expiry_at: str
    reason: str | None
    forward_usd: float | None
    surface_iv: float | None
    mark_iv: float | None
    price_usd: float | None
    price_coin: float | None
    mark_price_coin: float | None
    delta: float | None
    premium_adjusted_delta: float | None
    mark_delta: float | None
    gamma_per_usd: float | None
    vega_usd_per_vol: float | None
    theta_usd_per_day: float | None
    vanna_per_vol: float | None
    volga_usd_per_vol2: float | None
    charm_per_day: float | None


class CircuitBreaksRow(TypedDict):
    break_id: str
    subject: str
    event_at: str
    rule: str
    kind: str
    state: str
    is_halted: bool
    venue: str | None
    instrument: str | None
    underlying: str | None
    passes_exits: bool | None
    observed_at: str | None
    figure: float | None
    reference: float | None
    lower_limit: float | None
    upper_limit: float | None
    planned_end_at: str | None
    reason: str


class ControlsAppliedRow(TypedDict):
    job: str
    shard: int
    event_at: str
    scope: str
    mode: str
    who: str
    why: str
    said_at: str
    ends_at: str | None
    liquidations: bool
    control_partition: int | None
    control_offset: int | None
    applied_at: str
    is_start: bool


class DeadLettersRow(TypedDict):
    source: str
    partition: int | None
    offset: int
    event_at: str
    field: str | None
    expected: str
    got: str | None
    original: str


class ExecutionParentsRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    parent_client_order_id: str
    request: str
    algorithm: str | None
    side: str | None
    quantity: str | None
    start_at: str | None
    end_at: str | None
    limit_price: str | None
    urgency: str | None
    end_rule: str | None
    participation: float | None
    slice_count: int | None
    min_quantity: str | None
    display_quantity: str | None
    volume_profile: list[list[float]] | None
    depth_share: float | None
    wide_spread: float | None
    is_reduce_only: bool | None
    owner_group: str | None
    decision_price: str | None
    reason: str | None


class ExecutionQualityRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    parent_client_order_id: str
    algorithm: str
    side: str
    is_final: bool
    start_at: str
    quantity: str
    traded_quantity: str
    fill_rate: float
    child_count: int
    decision_price: float | None
    arrival_price: float | None
    average_price: float | None
    last_price: float | None
    decision_value: float | None
    value_currency: str | None
    delay: float | None
    realised: float | None
    missed: float | None
    fees: float | None
    shortfall: float | None
    wagner_delay: float | None
    interval_twap: float | None
    interval_vwap: float | None
    against_twap: float | None
    against_vwap: float | None
    effective_spread: float | None
    realised_spread: float | None
    against_book: float | None
    participation: float | None
    market_volume: float | None


class ExecutionReportsRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    received_at: str
    exec_id: str
    exec_type: str
    order_status: str | None
    order_id: str | None
    client_order_id: str | None
    orig_client_order_id: str | None
    side: str
    order_type: str | None
    time_in_force: str | None
    price: str | None
    quantity: str | None
    leaves_quantity: str | None
    cum_quantity: str | None
    last_price: str | None
    last_quantity: str | None
    average_price: str | None
    fee: str | None
    fee_currency: str | None
    is_maker: bool | None
    exec_ref_id: str | None
    reason: str | None


class ExecutionStatesRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    parent_client_order_id: str
    number: int
    status: str
    algorithm: str | None
    side: str | None
    quantity: str | None
    scheduled_quantity: str | None
    traded_quantity: str | None
    working_quantity: str | None
    unsent_quantity: str | None
    average_price: str | None
    market_volume: str | None
    child_count: int | None
    held: str | None
    rule: str | None
    reason: str | None


class FeedFaultsRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    kind: str
    sequence: int | None
    expected: str | None
    got: str | None


class FeedStatusRow(TypedDict):
    feed: str
    market: str
    host: str
    pid: int
    version: str
    started_at: str
    event_at: str
    state: str
    reason: str | None
    symbols: int
    connections_needed: int
    connections_open: int
    messages: int
    messages_per_s: float
    newest_at: str | None


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
    kind: str | None
    corrects_id: str | None


class ForwardsRow(TypedDict):
    venue: str
    underlying: str
    expiry_at: str
    event_at: str
    forward_usd: float | None
    source: str
    half_width_usd: float | None
    strikes: int
    index_usd: float | None
    reason: str | None
    quote_currency: str | None


class FundEntriesRow(TypedDict):
    entry_id: str
    currency: str
    event_at: str
    number: int
    kind: str
    account: str
    claim_id: str
    amount: str
    balance: str
    amount_usd: float
    counter_account: str | None
    instrument: str | None
    size: str | None
    price: str | None
    reason: str


class FundFillsRow(TypedDict):
    fund: str
    account: str
    account_partition: int
    venue: str
    instrument: str
    event_at: str
    received_at: str
    fill_id: str
    side: str
    price: str
    size: str
    fee: str
    kind: str | None
    corrects_id: str | None


class FundTransfersRow(TypedDict):
    fund: str
    account: str
    account_partition: int
    event_at: str
    received_at: str
    transfer_id: str
    currency: str
    amount: str
    kind: str | None
    margin_model: str | None


class GatewaySessionsRow(TypedDict):
    gateway: str
    session: str
    kind: str
    counterparty: str
    host: str
    pid: int
    version: str
    started_at: str
    event_at: str
    state: str
    reason: str | None
    next_out: int
    next_in: int
    messages_in: int
    messages_out: int
    orders_held: int
    orders_unknown: int
    newest_at: str | None


class IndexPricesRow(TypedDict):
    venue: str
    underlying: str
    event_at: str
    received_at: str
    price_usd: float
    confidence_usd: float | None
    quote_currency: str | None


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
    lot_size: NotRequired[float | None]
    amount_per_contract: float | None


class LedgerEntriesRow(TypedDict):
    entry_id: str
    account: str
    number: int
    event_at: str
    caused_at: str
    counter_account: str
    kind: str
    asset: str
    amount: str
    price: str | None
    balance: str
    average_price: str | None
    realised_pnl: str | None
    cause_kind: str
    cause_id: str
    corrected_id: str | None


class LiquidationEventsRow(TypedDict):
    event_id: str
    account: str
    event_at: str
    number: int
    kind: str
    state: str
    equity_usd: float | None
    initial_margin_usd: float | None
    maintenance_margin_usd: float | None
    order_id: str | None
    instrument: str | None
    amount_usd: float | None
    reason: str


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
    limit_price: float | None
    round: int | None
    visible_size: float | None


class LossClaimsRow(TypedDict):
    claim_id: str
    account: str
    event_at: str
    broke_at: str
    missing_usd: float
    currency: str
    is_settled: bool
    venue: str | None
    instrument: str | None
    size: float | None
    price: float | None
    share_usd: float | None
    reason: str


class MarginScalingsRow(TypedDict):
    underlying: str
    event_at: str
    vol: float
    factor: float
    previous_factor: float | None
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


class OracleFaultsRow(TypedDict):
    underlying: str
    source: str
    kind: str
    event_at: str
    is_over: bool
    measured: float | None
    allowed: float | None
    unit: str
    price_usd: float | None
    consensus_usd: float | None


class OraclePricesRow(TypedDict):
    underlying: str
    event_at: str
    price_usd: float
    confidence_usd: float
    average_usd: float
    age_ms: float
    source_count: int
    venue_count: int
    validity: str
    held: str | None
    rules: str


class OracleSourcesRow(TypedDict):
    underlying: str
    source: str
    venue: str
    kind: str
    quote_currency: str
    event_at: str
    published_at: str
    price_usd: float | None
    confidence_usd: float | None
    consensus_usd: float | None
    age_ms: float
    silent_ms: float
    gap_ms: float | None
    limit_ms: float | None
    still_ms: float
    still_limit_ms: float | None
    moved: float | None
    lag_ms: float | None
    jitter_ms: float | None
    deviation: float | None
    step_back_ms: int
    weight: float
    reason: str | None


class OracleUpdatesRow(TypedDict):
    venue: str
    instrument: str
    underlying: str
    quote_currency: str
    event_at: str
    received_at: str
    price: float
    confidence: float | None
    sequence: int | None


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
    depth: int | None
    block_height: NotRequired[int | None]


class OrderGuardsRow(TypedDict):
    account: str
    event_at: str
    number: int
    guard: str
    event: str
    cause_id: str
    venue: str | None
    instrument: str | None
    underlying: str | None
    ends_at: str | None
    orders: int | None
    rule: str | None
    reason: str | None


class OrderRequestsRow(TypedDict):
    account: str
    venue: str | None
    instrument: str | None
    event_at: str
    client_order_id: str
    orig_client_order_id: str | None
    parent_client_order_id: str | None
    request: str
    source: str
    owner_group: str | None
    side: str | None
    order_type: str | None
    time_in_force: str | None
    price: str | None
    quantity: str | None
    is_reduce_only: bool | None
    expires_at: str | None
    max_notional_usd: float | None
    reason: str | None
    is_mmp: NotRequired[bool | None]
    after_s: NotRequired[float | None]
    underlying: NotRequired[str | None]
    window_s: NotRequired[float | None]
    frozen_s: NotRequired[float | None]
    max_fills: NotRequired[int | None]
    max_quantity: NotRequired[float | None]
    max_delta: NotRequired[float | None]


class OrderStatesRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    order_key: str
    number: int
    client_order_id: str | None
    orig_client_order_id: str | None
    cause: str
    cause_id: str
    event: str
    from_status: str | None
    order_status: str
    side: str | None
    price: str | None
    quantity: str | None
    cum_quantity: str
    leaves_quantity: str
    average_price: str | None
    last_price: str | None
    last_quantity: str | None
    last_fee: str | None
    fee_currency: str | None
    reserved_usd: float
    rule: str | None
    reason: str | None


class OrdersRow(TypedDict):
    venue: str
    instrument: str
    instrument_partition: int
    event_at: str
    account: str
    number: int
    client_order_id: str
    orig_client_order_id: str | None
    parent_client_order_id: str | None
    order_id: str | None
    request: str
    source: str
    owner_group: str
    side: str
    order_type: str | None
    time_in_force: str | None
    price: str | None
    quantity: str | None
    is_reduce_only: bool | None
    expires_at: str | None


class PositionMarginRow(TypedDict):
    account: str
    venue: str
    instrument: str
    event_at: str
    size: float
    mark_price: float | None
    initial_margin_usd: float | None
    maintenance_margin_usd: float | None
    contribution_usd: float | None
    worst_scenario: str | None
    worst_loss_usd: float | None


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


class ResyncRequestsRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    sequence: int | None
    reason: str


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
    has_quote: bool | None
    funding_rate: float | None
    next_funding_at: str | None


class TradesRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    trade_id: str
    side: str
    price: float
    size: float
    off_market: str | None
    block_height: NotRequired[int | None]


class TradingControlsRow(TypedDict):
    scope: str
    mode: str
    who: str
    why: str
    event_at: str
    ends_at: str | None
    liquidations: bool


class TradingHaltsRow(TypedDict):
    venue: str
    instrument: str | None
    event_at: str
    received_at: str
    is_halted: bool
    reason: str | None


class TransfersRow(TypedDict):
    account: str
    event_at: str
    received_at: str
    transfer_id: str
    currency: str
    amount: str
    kind: str | None
    margin_model: str | None


class VenueClocksRow(TypedDict):
    venue: str
    event_at: str
    message_count: int
    median_offset_ms: float | None
    min_offset_ms: float | None
    max_offset_ms: float | None
    jitter_ms: float | None
    step_back_count: int


class VenueFillsRow(TypedDict):
    account: str
    account_partition: int
    venue: str
    instrument: str
    event_at: str
    received_at: str
    fill_id: str
    side: str
    price: str
    size: str
    fee: str
    kind: str | None
    corrects_id: str | None


class VenueOrderBooksRow(TypedDict):
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
    depth: int | None


class VenueReportsRow(TypedDict):
    account: str
    account_partition: int
    venue: str
    instrument: str
    event_at: str
    received_at: str
    exec_id: str
    exec_type: str
    order_status: str | None
    order_id: str | None
    client_order_id: str | None
    orig_client_order_id: str | None
    side: str
    order_type: str | None
    time_in_force: str | None
    price: str | None
    quantity: str | None
    leaves_quantity: str | None
    cum_quantity: str | None
    last_price: str | None
    last_quantity: str | None
    average_price: str | None
    fee: str | None
    fee_currency: str | None
    is_maker: bool | None
    exec_ref_id: str | None
    reason: str | None


class VenueTickersRow(TypedDict):
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
    has_quote: bool | None
    funding_rate: float | None
    next_funding_at: str | None


class VenueTimesRow(TypedDict):
    venue: str
    event_at: str
    received_at: str
    offset_ms: int


class VenueTradesRow(TypedDict):
    venue: str
    instrument: str
    event_at: str
    received_at: str
    trade_id: str
    side: str
    price: float
    size: float
    off_market: str | None


class VolSurfacesRow(TypedDict):
    venue: str
    underlying: str
    expiry_at: str
    event_at: str
    forward_usd: float | None
    forward_source: str | None
    years: float
    svi_a: float | None
    svi_b: float | None
    svi_rho: float | None
    svi_m: float | None
    svi_sigma: float | None
    atm_vol: float | None
    atm_skew: float | None
    quotes: int
    stale: int
    one_sided: int
    excluded: int
    inside_share: float | None
    rmse_vol_points: float | None
    durrleman_min: float | None
    calendar_min: float | None
    is_arbitrage_free: bool | None
    is_repaired: bool | None
    quote_age_ms: int | None
    reason: str | None


TABLES: dict[str, Table] = {
    "account_margin": Table(
        "account_margin.v1",
        ("account",),
        False,
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
            "worst_scenario": Column("STRING", True),
            "worst_loss_usd": Column("DOUBLE", True),
            "liquidation_probability_1h": Column("DOUBLE", True),
            "liquidation_probability_24h": Column("DOUBLE", True),
            "liquidation_probability_7d": Column("DOUBLE", True),
            "liquidation_probability_1h_error": Column("DOUBLE", True),
            "liquidation_probability_24h_error": Column("DOUBLE", True),
            "liquidation_probability_7d_error": Column("DOUBLE", True),
        },
    ),
    "algorithm_requests": Table(
        "algorithm_requests.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "client_order_id": Column("STRING", False),
            "orig_client_order_id": Column("STRING", True),
            "parent_client_order_id": Column("STRING", True),
            "request": Column("STRING", False),
            "source": Column("STRING", False),
            "owner_group": Column("STRING", True),
            "side": Column("STRING", True),
            "order_type": Column("STRING", True),
            "time_in_force": Column("STRING", True),
            "price": Column("DECIMAL(38, 18)", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "is_reduce_only": Column("BOOLEAN", True),
            "expires_at": Column("TIMESTAMP_LTZ(3)", True),
            "max_notional_usd": Column("DOUBLE", True),
            "reason": Column("STRING", True),
        },
    ),
    "balances": Table(
        "balances.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "currency": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "amount": Column("DECIMAL(38, 18)", False),
            "cause_id": Column("STRING", False),
            "margin_model": Column("STRING", True),
        },
    ),
    "bars": Table(
        "bars.v1",
        ("venue", "instrument"),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "interval_s": Column("INT", False),
            "start_at": Column("TIMESTAMP_LTZ(3)", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "open_price": Column("DOUBLE", True),
            "high_price": Column("DOUBLE", True),
            "low_price": Column("DOUBLE", True),
            "close_price": Column("DOUBLE", True),
            "volume": Column("DOUBLE", True),
            "vwap": Column("DOUBLE", True),
            "trade_count": Column("BIGINT", False),
        },
    ),
    "book_depth": Table(
        "book_depth.v1",
        ("venue", "instrument"),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "sequence": Column("BIGINT", True),
            "bids": Column("ARRAY<ARRAY<DOUBLE>>", False),
            "asks": Column("ARRAY<ARRAY<DOUBLE>>", False),
            "is_stale": Column("BOOLEAN", False),
        },
    ),
    "book_metrics": Table(
        "book_metrics.v1",
        ("venue", "instrument"),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "interval_s": Column("INT", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "is_stale": Column("BOOLEAN", False),
            "mid_price": Column("DOUBLE", True),
            "spread": Column("DOUBLE", True),
            "spread_bps": Column("DOUBLE", True),
            "micro_price": Column("DOUBLE", True),
            "imbalance": Column("DOUBLE", True),
            "order_flow_imbalance": Column("DOUBLE", True),
            "bid_depth_5bps": Column("DOUBLE", True),
            "bid_depth_10bps": Column("DOUBLE", True),
            "bid_depth_25bps": Column("DOUBLE", True),
            "bid_depth_50bps": Column("DOUBLE", True),
            "ask_depth_5bps": Column("DOUBLE", True),
            "ask_depth_10bps": Column("DOUBLE", True),
            "ask_depth_25bps": Column("DOUBLE", True),
            "ask_depth_50bps": Column("DOUBLE", True),
            "bid_reach_bps": Column("DOUBLE", True),
            "ask_reach_bps": Column("DOUBLE", True),
            "sell_slippage_10k_bps": Column("DOUBLE", True),
            "sell_slippage_100k_bps": Column("DOUBLE", True),
            "sell_slippage_1m_bps": Column("DOUBLE", True),
            "buy_slippage_10k_bps": Column("DOUBLE", True),
            "buy_slippage_100k_bps": Column("DOUBLE", True),
            "buy_slippage_1m_bps": Column("DOUBLE", True),
        },
    ),
    "book_tops": Table(
        "book_tops.v1",
        ("venue", "instrument"),
        False,
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
    "chain_greeks": Table(
        "chain_greeks.v1",
        ("venue", "instrument"),
        True,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "underlying": Column("STRING", False),
            "option_type": Column("STRING", False),
            "strike_usd": Column("DOUBLE", False),
            "expiry_at": Column("TIMESTAMP_LTZ(3)", False),
            "reason": Column("STRING", True),
            "forward_usd": Column("DOUBLE", True),
            "surface_iv": Column("DOUBLE", True),
            "mark_iv": Column("DOUBLE", True),
            "price_usd": Column("DOUBLE", True),
            "price_coin": Column("DOUBLE", True),
            "mark_price_coin": Column("DOUBLE", True),
            "delta": Column("DOUBLE", True),
            "premium_adjusted_delta": Column("DOUBLE", True),
            "mark_delta": Column("DOUBLE", True),
            "gamma_per_usd": Column("DOUBLE", True),
            "vega_usd_per_vol": Column("DOUBLE", True),
            "theta_usd_per_day": Column("DOUBLE", True),
            "vanna_per_vol": Column("DOUBLE", True),
            "volga_usd_per_vol2": Column("DOUBLE", True),
            "charm_per_day": Column("DOUBLE", True),
        },
    ),
    "circuit_breaks": Table(
        "circuit_breaks.v1",
        ("subject",),
        False,
        False,
        {
            "break_id": Column("STRING", False),
            "subject": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "rule": Column("STRING", False),
            "kind": Column("STRING", False),
            "state": Column("STRING", False),
            "is_halted": Column("BOOLEAN", False),
            "venue": Column("STRING", True),
            "instrument": Column("STRING", True),
            "underlying": Column("STRING", True),
            "passes_exits": Column("BOOLEAN", True),
            "observed_at": Column("TIMESTAMP_LTZ(3)", True),
            "figure": Column("DOUBLE", True),
            "reference": Column("DOUBLE", True),
            "lower_limit": Column("DOUBLE", True),
            "upper_limit": Column("DOUBLE", True),
            "planned_end_at": Column("TIMESTAMP_LTZ(3)", True),
            "reason": Column("STRING", False),
        },
    ),
    "controls_applied": Table(
        "controls_applied.v1",
        ("job", "shard"),
        False,
        False,
        {
            "job": Column("STRING", False),
            "shard": Column("INT", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "scope": Column("STRING", False),
            "mode": Column("STRING", False),
            "who": Column("STRING", False),
            "why": Column("STRING", False),
            "said_at": Column("TIMESTAMP_LTZ(3)", False),
            "ends_at": Column("TIMESTAMP_LTZ(3)", True),
            "liquidations": Column("BOOLEAN", False),
            "control_partition": Column("INT", True),
            "control_offset": Column("BIGINT", True),
            "applied_at": Column("TIMESTAMP_LTZ(6)", False),
            "is_start": Column("BOOLEAN", False),
        },
    ),
    "dead_letters": Table(
        "dead_letters.v1",
        ("source",),
        False,
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
    "execution_parents": Table(
        "execution_parents.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "parent_client_order_id": Column("STRING", False),
            "request": Column("STRING", False),
            "algorithm": Column("STRING", True),
            "side": Column("STRING", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "start_at": Column("TIMESTAMP_LTZ(3)", True),
            "end_at": Column("TIMESTAMP_LTZ(3)", True),
            "limit_price": Column("DECIMAL(38, 18)", True),
            "urgency": Column("STRING", True),
            "end_rule": Column("STRING", True),
            "participation": Column("DOUBLE", True),
            "slice_count": Column("INT", True),
            "min_quantity": Column("DECIMAL(38, 18)", True),
            "display_quantity": Column("DECIMAL(38, 18)", True),
            "volume_profile": Column("ARRAY<ARRAY<DOUBLE>>", True),
            "depth_share": Column("DOUBLE", True),
            "wide_spread": Column("DOUBLE", True),
            "is_reduce_only": Column("BOOLEAN", True),
            "owner_group": Column("STRING", True),
            "decision_price": Column("DECIMAL(38, 18)", True),
            "reason": Column("STRING", True),
        },
    ),
    "execution_quality": Table(
        "execution_quality.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "parent_client_order_id": Column("STRING", False),
            "algorithm": Column("STRING", False),
            "side": Column("STRING", False),
            "is_final": Column("BOOLEAN", False),
            "start_at": Column("TIMESTAMP_LTZ(3)", False),
            "quantity": Column("DECIMAL(38, 18)", False),
            "traded_quantity": Column("DECIMAL(38, 18)", False),
            "fill_rate": Column("DOUBLE", False),
            "child_count": Column("BIGINT", False),
            "decision_price": Column("DOUBLE", True),
            "arrival_price": Column("DOUBLE", True),
            "average_price": Column("DOUBLE", True),
            "last_price": Column("DOUBLE", True),
            "decision_value": Column("DOUBLE", True),
            "value_currency": Column("STRING", True),
            "delay": Column("DOUBLE", True),
            "realised": Column("DOUBLE", True),
            "missed": Column("DOUBLE", True),
            "fees": Column("DOUBLE", True),
            "shortfall": Column("DOUBLE", True),
            "wagner_delay": Column("DOUBLE", True),
            "interval_twap": Column("DOUBLE", True),
            "interval_vwap": Column("DOUBLE", True),
            "against_twap": Column("DOUBLE", True),
            "against_vwap": Column("DOUBLE", True),
            "effective_spread": Column("DOUBLE", True),
            "realised_spread": Column("DOUBLE", True),
            "against_book": Column("DOUBLE", True),
            "participation": Column("DOUBLE", True),
            "market_volume": Column("DOUBLE", True),
        },
    ),
    "execution_reports": Table(
        "execution_reports.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "exec_id": Column("STRING", False),
            "exec_type": Column("STRING", False),
            "order_status": Column("STRING", True),
            "order_id": Column("STRING", True),
            "client_order_id": Column("STRING", True),
            "orig_client_order_id": Column("STRING", True),
            "side": Column("STRING", False),
            "order_type": Column("STRING", True),
            "time_in_force": Column("STRING", True),
            "price": Column("DECIMAL(38, 18)", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "leaves_quantity": Column("DECIMAL(38, 18)", True),
            "cum_quantity": Column("DECIMAL(38, 18)", True),
            "last_price": Column("DECIMAL(38, 18)", True),
            "last_quantity": Column("DECIMAL(38, 18)", True),
            "average_price": Column("DECIMAL(38, 18)", True),
            "fee": Column("DECIMAL(38, 18)", True),
            "fee_currency": Column("STRING", True),
            "is_maker": Column("BOOLEAN", True),
            "exec_ref_id": Column("STRING", True),
            "reason": Column("STRING", True),
        },
    ),
    "execution_states": Table(
        "execution_states.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "parent_client_order_id": Column("STRING", False),
            "number": Column("BIGINT", False),
            "status": Column("STRING", False),
            "algorithm": Column("STRING", True),
            "side": Column("STRING", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "scheduled_quantity": Column("DECIMAL(38, 18)", True),
            "traded_quantity": Column("DECIMAL(38, 18)", True),
            "working_quantity": Column("DECIMAL(38, 18)", True),
            "unsent_quantity": Column("DECIMAL(38, 18)", True),
            "average_price": Column("DECIMAL(38, 18)", True),
            "market_volume": Column("DECIMAL(38, 18)", True),
            "child_count": Column("BIGINT", True),
            "held": Column("STRING", True),
            "rule": Column("STRING", True),
            "reason": Column("STRING", True),
        },
    ),
    "feed_faults": Table(
        "feed_faults.v1",
        ("venue", "instrument"),
        False,
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
    "feed_status": Table(
        "feed_status.v1",
        ("feed",),
        True,
        False,
        {
            "feed": Column("STRING", False),
            "market": Column("STRING", False),
            "host": Column("STRING", False),
            "pid": Column("INT", False),
            "version": Column("STRING", False),
            "started_at": Column("TIMESTAMP_LTZ(3)", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "state": Column("STRING", False),
            "reason": Column("STRING", True),
            "symbols": Column("INT", False),
            "connections_needed": Column("INT", False),
            "connections_open": Column("INT", False),
            "messages": Column("BIGINT", False),
            "messages_per_s": Column("DOUBLE", False),
            "newest_at": Column("TIMESTAMP_LTZ(6)", True),
        },
    ),
    "fills": Table(
        "fills.v1",
        ("account",),
        False,
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
            "kind": Column("STRING", True),
            "corrects_id": Column("STRING", True),
        },
    ),
    "forwards": Table(
        "forwards.v1",
        ("venue", "underlying", "expiry_at"),
        True,
        False,
        {
            "venue": Column("STRING", False),
            "underlying": Column("STRING", False),
            "expiry_at": Column("TIMESTAMP_LTZ(3)", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "forward_usd": Column("DOUBLE", True),
            "source": Column("STRING", False),
            "half_width_usd": Column("DOUBLE", True),
            "strikes": Column("INT", False),
            "index_usd": Column("DOUBLE", True),
            "reason": Column("STRING", True),
            "quote_currency": Column("STRING", True),
        },
    ),
    "fund_entries": Table(
        "fund_entries.v1",
        ("currency",),
        False,
        False,
        {
            "entry_id": Column("STRING", False),
            "currency": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "number": Column("BIGINT", False),
            "kind": Column("STRING", False),
            "account": Column("STRING", False),
            "claim_id": Column("STRING", False),
            "amount": Column("DECIMAL(38, 18)", False),
            "balance": Column("DECIMAL(38, 18)", False),
            "amount_usd": Column("DOUBLE", False),
            "counter_account": Column("STRING", True),
            "instrument": Column("STRING", True),
            "size": Column("DECIMAL(38, 18)", True),
            "price": Column("DECIMAL(38, 18)", True),
            "reason": Column("STRING", False),
        },
    ),
    "fund_fills": Table(
        "fund_fills.v1",
        ("fund",),
        False,
        False,
        {
            "fund": Column("STRING", False),
            "account": Column("STRING", False),
            "account_partition": Column("INT", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "fill_id": Column("STRING", False),
            "side": Column("STRING", False),
            "price": Column("DECIMAL(38, 18)", False),
            "size": Column("DECIMAL(38, 18)", False),
            "fee": Column("DECIMAL(38, 18)", False),
            "kind": Column("STRING", True),
            "corrects_id": Column("STRING", True),
        },
    ),
    "fund_transfers": Table(
        "fund_transfers.v1",
        ("fund",),
        False,
        False,
        {
            "fund": Column("STRING", False),
            "account": Column("STRING", False),
            "account_partition": Column("INT", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "transfer_id": Column("STRING", False),
            "currency": Column("STRING", False),
            "amount": Column("DECIMAL(38, 18)", False),
            "kind": Column("STRING", True),
            "margin_model": Column("STRING", True),
        },
    ),
    "gateway_sessions": Table(
        "gateway_sessions.v1",
        ("gateway", "session"),
        True,
        False,
        {
            "gateway": Column("STRING", False),
            "session": Column("STRING", False),
            "kind": Column("STRING", False),
            "counterparty": Column("STRING", False),
            "host": Column("STRING", False),
            "pid": Column("INT", False),
            "version": Column("STRING", False),
            "started_at": Column("TIMESTAMP_LTZ(3)", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "state": Column("STRING", False),
            "reason": Column("STRING", True),
            "next_out": Column("BIGINT", False),
            "next_in": Column("BIGINT", False),
            "messages_in": Column("BIGINT", False),
            "messages_out": Column("BIGINT", False),
            "orders_held": Column("INT", False),
            "orders_unknown": Column("INT", False),
            "newest_at": Column("TIMESTAMP_LTZ(6)", True),
        },
    ),
    "index_prices": Table(
        "index_prices.v2",
        ("venue", "underlying", "quote_currency"),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "underlying": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "price_usd": Column("DOUBLE", False),
            "confidence_usd": Column("DOUBLE", True),
            "quote_currency": Column("STRING", True),
        },
    ),
    "instruments": Table(
        "instruments.v1",
        ("venue", "instrument"),
        True,
        False,
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
            "lot_size": Column("DOUBLE", True),
            "amount_per_contract": Column("DOUBLE", True),
        },
    ),
    "ledger_entries": Table(
        "ledger_entries.v1",
        ("account",),
        False,
        True,
        {
            "entry_id": Column("STRING", False),
            "account": Column("STRING", False),
            "number": Column("BIGINT", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "caused_at": Column("TIMESTAMP_LTZ(3)", False),
            "counter_account": Column("STRING", False),
            "kind": Column("STRING", False),
            "asset": Column("STRING", False),
            "amount": Column("DECIMAL(38, 18)", False),
            "price": Column("DECIMAL(38, 18)", True),
            "balance": Column("DECIMAL(38, 18)", False),
            "average_price": Column("DECIMAL(38, 18)", True),
            "realised_pnl": Column("DECIMAL(38, 18)", True),
            "cause_kind": Column("STRING", False),
            "cause_id": Column("STRING", False),
            "corrected_id": Column("STRING", True),
        },
    ),
    "liquidation_events": Table(
        "liquidation_events.v1",
        ("account",),
        False,
        False,
        {
            "event_id": Column("STRING", False),
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "number": Column("BIGINT", False),
            "kind": Column("STRING", False),
            "state": Column("STRING", False),
            "equity_usd": Column("DOUBLE", True),
            "initial_margin_usd": Column("DOUBLE", True),
            "maintenance_margin_usd": Column("DOUBLE", True),
            "order_id": Column("STRING", True),
            "instrument": Column("STRING", True),
            "amount_usd": Column("DOUBLE", True),
            "reason": Column("STRING", False),
        },
    ),
    "liquidation_orders": Table(
        "liquidation_orders.v1",
        ("account",),
        False,
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
            "limit_price": Column("DOUBLE", True),
            "round": Column("BIGINT", True),
            "visible_size": Column("DOUBLE", True),
        },
    ),
    "loss_claims": Table(
        "loss_claims.v1",
        ("account",),
        False,
        False,
        {
            "claim_id": Column("STRING", False),
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "broke_at": Column("TIMESTAMP_LTZ(3)", False),
            "missing_usd": Column("DOUBLE", False),
            "currency": Column("STRING", False),
            "is_settled": Column("BOOLEAN", False),
            "venue": Column("STRING", True),
            "instrument": Column("STRING", True),
            "size": Column("DOUBLE", True),
            "price": Column("DOUBLE", True),
            "share_usd": Column("DOUBLE", True),
            "reason": Column("STRING", False),
        },
    ),
    "margin_scalings": Table(
        "margin_scalings.v1",
        ("underlying",),
        False,
        False,
        {
            "underlying": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "vol": Column("DOUBLE", False),
            "factor": Column("DOUBLE", False),
            "previous_factor": Column("DOUBLE", True),
            "reason": Column("STRING", False),
        },
    ),
    "option_greeks": Table(
        "option_greeks.v1",
        ("venue", "instrument"),
        False,
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
    "oracle_faults": Table(
        "oracle_faults.v1",
        ("underlying",),
        False,
        False,
        {
            "underlying": Column("STRING", False),
            "source": Column("STRING", False),
            "kind": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "is_over": Column("BOOLEAN", False),
            "measured": Column("DOUBLE", True),
            "allowed": Column("DOUBLE", True),
            "unit": Column("STRING", False),
            "price_usd": Column("DOUBLE", True),
            "consensus_usd": Column("DOUBLE", True),
        },
    ),
    "oracle_prices": Table(
        "oracle_prices.v1",
        ("underlying",),
        False,
        False,
        {
            "underlying": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "price_usd": Column("DOUBLE", False),
            "confidence_usd": Column("DOUBLE", False),
            "average_usd": Column("DOUBLE", False),
            "age_ms": Column("DOUBLE", False),
            "source_count": Column("INT", False),
            "venue_count": Column("INT", False),
            "validity": Column("STRING", False),
            "held": Column("STRING", True),
            "rules": Column("STRING", False),
        },
    ),
    "oracle_sources": Table(
        "oracle_sources.v1",
        ("underlying",),
        False,
        False,
        {
            "underlying": Column("STRING", False),
            "source": Column("STRING", False),
            "venue": Column("STRING", False),
            "kind": Column("STRING", False),
            "quote_currency": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "published_at": Column("TIMESTAMP_LTZ(3)", False),
            "price_usd": Column("DOUBLE", True),
            "confidence_usd": Column("DOUBLE", True),
            "consensus_usd": Column("DOUBLE", True),
            "age_ms": Column("DOUBLE", False),
            "silent_ms": Column("DOUBLE", False),
            "gap_ms": Column("DOUBLE", True),
            "limit_ms": Column("DOUBLE", True),
            "still_ms": Column("DOUBLE", False),
            "still_limit_ms": Column("DOUBLE", True),
            "moved": Column("DOUBLE", True),
            "lag_ms": Column("DOUBLE", True),
            "jitter_ms": Column("DOUBLE", True),
            "deviation": Column("DOUBLE", True),
            "step_back_ms": Column("BIGINT", False),
            "weight": Column("DOUBLE", False),
            "reason": Column("STRING", True),
        },
    ),
    "oracle_updates": Table(
        "oracle_updates.v1",
        ("venue", "underlying", "quote_currency"),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "underlying": Column("STRING", False),
            "quote_currency": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "price": Column("DOUBLE", False),
            "confidence": Column("DOUBLE", True),
            "sequence": Column("BIGINT", True),
        },
    ),
    "order_books": Table(
        "order_books.v1",
        ("venue", "instrument"),
        False,
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
            "depth": Column("INT", True),
            "block_height": Column("BIGINT", True),
        },
    ),
    "order_guards": Table(
        "order_guards.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "number": Column("BIGINT", False),
            "guard": Column("STRING", False),
            "event": Column("STRING", False),
            "cause_id": Column("STRING", False),
            "venue": Column("STRING", True),
            "instrument": Column("STRING", True),
            "underlying": Column("STRING", True),
            "ends_at": Column("TIMESTAMP_LTZ(3)", True),
            "orders": Column("INT", True),
            "rule": Column("STRING", True),
            "reason": Column("STRING", True),
        },
    ),
    "order_requests": Table(
        "order_requests.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", True),
            "instrument": Column("STRING", True),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "client_order_id": Column("STRING", False),
            "orig_client_order_id": Column("STRING", True),
            "parent_client_order_id": Column("STRING", True),
            "request": Column("STRING", False),
            "source": Column("STRING", False),
            "owner_group": Column("STRING", True),
            "side": Column("STRING", True),
            "order_type": Column("STRING", True),
            "time_in_force": Column("STRING", True),
            "price": Column("DECIMAL(38, 18)", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "is_reduce_only": Column("BOOLEAN", True),
            "expires_at": Column("TIMESTAMP_LTZ(3)", True),
            "max_notional_usd": Column("DOUBLE", True),
            "reason": Column("STRING", True),
            "is_mmp": Column("BOOLEAN", True),
            "after_s": Column("DOUBLE", True),
            "underlying": Column("STRING", True),
            "window_s": Column("DOUBLE", True),
            "frozen_s": Column("DOUBLE", True),
            "max_fills": Column("INT", True),
            "max_quantity": Column("DOUBLE", True),
            "max_delta": Column("DOUBLE", True),
        },
    ),
    "order_states": Table(
        "order_states.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "order_key": Column("STRING", False),
            "number": Column("BIGINT", False),
            "client_order_id": Column("STRING", True),
            "orig_client_order_id": Column("STRING", True),
            "cause": Column("STRING", False),
            "cause_id": Column("STRING", False),
            "event": Column("STRING", False),
            "from_status": Column("STRING", True),
            "order_status": Column("STRING", False),
            "side": Column("STRING", True),
            "price": Column("DECIMAL(38, 18)", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "cum_quantity": Column("DECIMAL(38, 18)", False),
            "leaves_quantity": Column("DECIMAL(38, 18)", False),
            "average_price": Column("DECIMAL(38, 18)", True),
            "last_price": Column("DECIMAL(38, 18)", True),
            "last_quantity": Column("DECIMAL(38, 18)", True),
            "last_fee": Column("DECIMAL(38, 18)", True),
            "fee_currency": Column("STRING", True),
            "reserved_usd": Column("DOUBLE", False),
            "rule": Column("STRING", True),
            "reason": Column("STRING", True),
        },
    ),
    "orders": Table(
        "orders.v1",
        ("account",),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "instrument_partition": Column("INT", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "account": Column("STRING", False),
            "number": Column("BIGINT", False),
            "client_order_id": Column("STRING", False),
            "orig_client_order_id": Column("STRING", True),
            "parent_client_order_id": Column("STRING", True),
            "order_id": Column("STRING", True),
            "request": Column("STRING", False),
            "source": Column("STRING", False),
            "owner_group": Column("STRING", False),
            "side": Column("STRING", False),
            "order_type": Column("STRING", True),
            "time_in_force": Column("STRING", True),
            "price": Column("DECIMAL(38, 18)", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "is_reduce_only": Column("BOOLEAN", True),
            "expires_at": Column("TIMESTAMP_LTZ(3)", True),
        },
    ),
    "position_margin": Table(
        "position_margin.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "size": Column("DOUBLE", False),
            "mark_price": Column("DOUBLE", True),
            "initial_margin_usd": Column("DOUBLE", True),
            "maintenance_margin_usd": Column("DOUBLE", True),
            "contribution_usd": Column("DOUBLE", True),
            "worst_scenario": Column("STRING", True),
            "worst_loss_usd": Column("DOUBLE", True),
        },
    ),
    "positions": Table(
        "positions.v1",
        ("account",),
        False,
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
    "resync_requests": Table(
        "resync_requests.v1",
        ("venue", "instrument"),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "sequence": Column("BIGINT", True),
            "reason": Column("STRING", False),
        },
    ),
    "tickers": Table(
        "tickers.v1",
        ("venue", "instrument"),
        False,
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
            "has_quote": Column("BOOLEAN", True),
            "funding_rate": Column("DOUBLE", True),
            "next_funding_at": Column("TIMESTAMP_LTZ(3)", True),
        },
    ),
    "trades": Table(
        "trades.v1",
        ("venue", "instrument"),
        False,
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
            "off_market": Column("STRING", True),
            "block_height": Column("BIGINT", True),
        },
    ),
    "trading_controls": Table(
        "trading_controls.v1",
        ("scope",),
        True,
        False,
        {
            "scope": Column("STRING", False),
            "mode": Column("STRING", False),
            "who": Column("STRING", False),
            "why": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "ends_at": Column("TIMESTAMP_LTZ(3)", True),
            "liquidations": Column("BOOLEAN", False),
        },
    ),
    "trading_halts": Table(
        "trading_halts.v1",
        ("venue",),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "instrument": Column("STRING", True),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "is_halted": Column("BOOLEAN", False),
            "reason": Column("STRING", True),
        },
    ),
    "transfers": Table(
        "transfers.v1",
        ("account",),
        False,
        False,
        {
            "account": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "transfer_id": Column("STRING", False),
            "currency": Column("STRING", False),
            "amount": Column("DECIMAL(38, 18)", False),
            "kind": Column("STRING", True),
            "margin_model": Column("STRING", True),
        },
    ),
    "venue_clocks": Table(
        "venue_clocks.v1",
        ("venue",),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "message_count": Column("BIGINT", False),
            "median_offset_ms": Column("DOUBLE", True),
            "min_offset_ms": Column("DOUBLE", True),
            "max_offset_ms": Column("DOUBLE", True),
            "jitter_ms": Column("DOUBLE", True),
            "step_back_count": Column("BIGINT", False),
        },
    ),
    "venue_fills": Table(
        "venue_fills.v1",
        ("venue", "instrument"),
        False,
        False,
        {
            "account": Column("STRING", False),
            "account_partition": Column("INT", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "fill_id": Column("STRING", False),
            "side": Column("STRING", False),
            "price": Column("DECIMAL(38, 18)", False),
            "size": Column("DECIMAL(38, 18)", False),
            "fee": Column("DECIMAL(38, 18)", False),
            "kind": Column("STRING", True),
            "corrects_id": Column("STRING", True),
        },
    ),
    "venue_order_books": Table(
        "venue_order_books.v1",
        ("venue", "instrument"),
        False,
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
            "depth": Column("INT", True),
        },
    ),
    "venue_reports": Table(
        "venue_reports.v1",
        ("venue", "instrument"),
        False,
        False,
        {
            "account": Column("STRING", False),
            "account_partition": Column("INT", False),
            "venue": Column("STRING", False),
            "instrument": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "exec_id": Column("STRING", False),
            "exec_type": Column("STRING", False),
            "order_status": Column("STRING", True),
            "order_id": Column("STRING", True),
            "client_order_id": Column("STRING", True),
            "orig_client_order_id": Column("STRING", True),
            "side": Column("STRING", False),
            "order_type": Column("STRING", True),
            "time_in_force": Column("STRING", True),
            "price": Column("DECIMAL(38, 18)", True),
            "quantity": Column("DECIMAL(38, 18)", True),
            "leaves_quantity": Column("DECIMAL(38, 18)", True),
            "cum_quantity": Column("DECIMAL(38, 18)", True),
            "last_price": Column("DECIMAL(38, 18)", True),
            "last_quantity": Column("DECIMAL(38, 18)", True),
            "average_price": Column("DECIMAL(38, 18)", True),
            "fee": Column("DECIMAL(38, 18)", True),
            "fee_currency": Column("STRING", True),
            "is_maker": Column("BOOLEAN", True),
            "exec_ref_id": Column("STRING", True),
            "reason": Column("STRING", True),
        },
    ),
    "venue_tickers": Table(
        "venue_tickers.v1",
        ("venue", "instrument"),
        False,
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
            "has_quote": Column("BOOLEAN", True),
            "funding_rate": Column("DOUBLE", True),
            "next_funding_at": Column("TIMESTAMP_LTZ(3)", True),
        },
    ),
    "venue_times": Table(
        "venue_times.v1",
        ("venue",),
        False,
        False,
        {
            "venue": Column("STRING", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "received_at": Column("TIMESTAMP_LTZ(6)", False),
            "offset_ms": Column("BIGINT", False),
        },
    ),
    "venue_trades": Table(
        "venue_trades.v1",
        ("venue", "instrument"),
        False,
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
            "off_market": Column("STRING", True),
        },
    ),
    "vol_surfaces": Table(
        "vol_surfaces.v1",
        ("venue", "underlying", "expiry_at"),
        True,
        False,
        {
            "venue": Column("STRING", False),
            "underlying": Column("STRING", False),
            "expiry_at": Column("TIMESTAMP_LTZ(3)", False),
            "event_at": Column("TIMESTAMP_LTZ(3)", False),
            "forward_usd": Column("DOUBLE", True),
            "forward_source": Column("STRING", True),
            "years": Column("DOUBLE", False),
            "svi_a": Column("DOUBLE", True),
            "svi_b": Column("DOUBLE", True),
            "svi_rho": Column("DOUBLE", True),
            "svi_m": Column("DOUBLE", True),
            "svi_sigma": Column("DOUBLE", True),
            "atm_vol": Column("DOUBLE", True),
            "atm_skew": Column("DOUBLE", True),
            "quotes": Column("INT", False),
            "stale": Column("INT", False),
            "one_sided": Column("INT", False),
            "excluded": Column("INT", False),
            "inside_share": Column("DOUBLE", True),
            "rmse_vol_points": Column("DOUBLE", True),
            "durrleman_min": Column("DOUBLE", True),
            "calendar_min": Column("DOUBLE", True),
            "is_arbitrage_free": Column("BOOLEAN", True),
            "is_repaired": Column("BOOLEAN", True),
            "quote_age_ms": Column("BIGINT", True),
            "reason": Column("STRING", True),
        },
    ),
}
