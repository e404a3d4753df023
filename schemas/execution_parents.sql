-- Topic execution_parents.v1, keyed by account.  Append-only.
--
-- What is wanted of large orders that an algorithm works in slices: one that is new, or that pauses, goes on or ends.  The job
-- execution checks it, says in execution_states what becomes of it, and requests its children.
--
-- Grain   one row per request; the same request however often it comes counts once
CREATE TEMPORARY TABLE execution_parents (
  account                STRING           NOT NULL,
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was requested',
  parent_client_order_id STRING           NOT NULL COMMENT 'Of the large order: up to 32 letters and digits, unique within the account',
  request                STRING           NOT NULL COMMENT 'new, pause, resume or cancel; of all but new only the columns above count',
  algorithm              STRING                    COMMENT 'twap: evenly over the time; vwap: along volume_profile; pov: a fraction of what others trade; iceberg: display_quantity at a time',
  side                   STRING                    COMMENT 'buy or sell',
  quantity               DECIMAL(38, 18)           COMMENT 'Contracts, whole lots above zero',
  start_at               TIMESTAMP_LTZ(3)          COMMENT 'NULL: at once',
  end_at                 TIMESTAMP_LTZ(3)          COMMENT 'NULL: the end of the day, UTC, in which it starts; never after the end of trading of its contract',
  limit_price            DECIMAL(38, 18)           COMMENT 'Worst price, in the quote currency; an iceberg needs one; NULL: the market''s',
  urgency                STRING                    COMMENT 'rest: children join the best price of their own side, follow it and stay; take: they take from the other side at once, and what they do not get comes back. NULL is rest; an iceberg rests at its limit',
  end_rule               STRING                    COMMENT 'cancel: what rests at the end is cancelled; take: in the last slice, or twentieth of the time, it takes. NULL is cancel',
  participation          DOUBLE                    COMMENT 'Most that may be traded of what others trade from the start on, a fraction: of pov what it follows; NULL: any',
  slice_count            INT                       COMMENT 'Of twap and vwap: slices at most; NULL is one a minute. Of pov: a slice is at most 1.25 times the quantity divided by it; NULL is 20',
  min_quantity           DECIMAL(38, 18)           COMMENT 'The smallest order that the venue takes, in whole lots; NULL is one lot',
  display_quantity       DECIMAL(38, 18)           COMMENT 'Of an iceberg: what it shows at a time; NULL otherwise',
  volume_profile         ARRAY<ARRAY<DOUBLE>>      COMMENT 'Of vwap: [seconds, volume] of each part of the time from start to end, by the seconds of its start after start_at, the first at 0; made of bars of earlier days. NULL otherwise',
  depth_share            DOUBLE                    COMMENT 'A child is at most this fraction of what the book shows, within the limit, of the side that it takes from or joins; NULL: any',
  wide_spread            DOUBLE                    COMMENT 'The spread, as a fraction of mid, from which on a slice shrinks in proportion: at twice that it is half; NULL: none is too wide',
  is_reduce_only         BOOLEAN                   COMMENT 'Whether children may only make the position smaller; NULL is FALSE',
  owner_group            STRING                    COMMENT 'As in order_requests',
  decision_price         DECIMAL(38, 18)           COMMENT 'What the market was worth when it was decided to trade; NULL: the mid when the request came',
  reason                 STRING                    COMMENT 'Why it is wanted'
) WITH ('topic' = 'execution_parents.v1') LIKE kafka_json;
