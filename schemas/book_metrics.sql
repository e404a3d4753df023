-- Topic book_metrics.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per instrument and interval of a second and a minute in which a message of its book was applied, or its depth
--         was repeated, as it is every 10 s while its venue is not quiet
-- NULL    every number is NULL where the book is stale at the interval's end; what needs both sides also where one is empty
-- Last    every number but order_flow_imbalance is of the book at the interval's end
CREATE TEMPORARY TABLE book_metrics (
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  interval_s             INT              NOT NULL COMMENT 'Length of the interval: 1 or 60',
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The first instant after the interval',
  is_stale               BOOLEAN          NOT NULL COMMENT 'Updates were lost: every number is NULL',
  mid_price              DOUBLE                    COMMENT 'Half way between best bid and ask',
  spread                 DOUBLE                    COMMENT 'Best ask less best bid, in the quote currency',
  spread_bps             DOUBLE                    COMMENT 'The spread in 1/10,000 of the mid',
  micro_price            DOUBLE                    COMMENT 'Best prices, each weighted by the size on the other side',
  imbalance              DOUBLE                    COMMENT '(bid size - ask size) / (bid size + ask size) at the best prices: -1 to 1',
  order_flow_imbalance   DOUBLE                    COMMENT 'Sum of Cont, Kukanov and Stoikov''s e over the changes of the top within the interval, in the venue''s unit of amount; NULL where the top was stale or one-sided at one of them, or is the first known',
  bid_depth_5bps         DOUBLE                    COMMENT 'Sizes of the bids at most 5/10,000 of the mid below it, in the venue''s unit of amount; see bid_reach_bps',
  bid_depth_10bps        DOUBLE,
  bid_depth_25bps        DOUBLE,
  bid_depth_50bps        DOUBLE,
  ask_depth_5bps         DOUBLE                    COMMENT 'The same of the asks; see ask_reach_bps',
  ask_depth_10bps        DOUBLE,
  ask_depth_25bps        DOUBLE,
  ask_depth_50bps        DOUBLE,
  bid_reach_bps          DOUBLE                    COMMENT 'How far below the mid the 20 levels of book_depth end: a band that is wider holds at least its depth. NULL where they are all there are',
  ask_reach_bps          DOUBLE,
  sell_slippage_10k_bps  DOUBLE                    COMMENT 'How far below the mid, on average, a market order of 10,000 would sell: price times size, in the quote currency (of an inverse contract, whose size is money already, no answer to that). NULL where 20 levels do not bear it',
  sell_slippage_100k_bps DOUBLE,
  sell_slippage_1m_bps   DOUBLE,
  buy_slippage_10k_bps   DOUBLE                    COMMENT 'How far above the mid one would buy',
  buy_slippage_100k_bps  DOUBLE,
  buy_slippage_1m_bps    DOUBLE
) WITH ('topic' = 'book_metrics.v1') LIKE kafka_json;
