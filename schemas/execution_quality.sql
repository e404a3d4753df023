-- Topic execution_quality.v1, keyed by account.  Append-only: what each large order of execution_parents has cost so far.
--
-- Formulas: udfs/execution_quality.py.  A cost is positive.  Where no unit is named a figure is a fraction: a part of the shortfall
-- of decision_value, another of its benchmark.  A figure is NULL where what it needs did not happen or is not known.
--
-- Grain   one row per parent and its venue: each minute while it works, at its end, and once more when the last of its figures is
--         known; the newest counts
CREATE TEMPORARY TABLE execution_quality (
  account                STRING           NOT NULL,
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that tells it',
  parent_client_order_id STRING           NOT NULL,
  algorithm              STRING           NOT NULL,
  side                   STRING           NOT NULL,
  is_final               BOOLEAN          NOT NULL COMMENT 'Whether the parent is done, and nothing will change any more unless an execution is undone',
  start_at               TIMESTAMP_LTZ(3) NOT NULL,
  quantity               DECIMAL(38, 18)  NOT NULL COMMENT 'Contracts',
  traded_quantity        DECIMAL(38, 18)  NOT NULL COMMENT 'Contracts',
  fill_rate              DOUBLE           NOT NULL COMMENT 'Traded, as a fraction of quantity',
  child_count            BIGINT           NOT NULL,
  decision_price         DOUBLE                    COMMENT 'In the quote currency: that of the request, else the first mid that was known of it',
  arrival_price          DOUBLE                    COMMENT 'The mid when it started',
  average_price          DOUBLE                    COMMENT 'Of what is traded',
  last_price             DOUBLE                    COMMENT 'The mid now; of a parent that is done, when it ended',
  decision_value         DOUBLE                    COMMENT 'The whole order at the price of its decision, in value_currency',
  value_currency         STRING                    COMMENT 'The settlement currency',
  delay                  DOUBLE                    COMMENT 'Part of the shortfall: from decision to arrival, of what is traded',
  realised               DOUBLE                    COMMENT 'Part of the shortfall: from arrival to the fills',
  missed                 DOUBLE                    COMMENT 'Part of the shortfall: from decision to last_price, of what is not traded',
  fees                   DOUBLE                    COMMENT 'Part of the shortfall: fees in value_currency; below zero where the venue pays',
  shortfall              DOUBLE                    COMMENT 'Perold''s implementation shortfall: the sum of the four',
  wagner_delay           DOUBLE                    COMMENT 'By Wagner: from decision to arrival, of the whole order; what is missed then begins at arrival',
  interval_twap          DOUBLE                    COMMENT 'The mean mid by time, from the start to the end',
  interval_vwap          DOUBLE                    COMMENT 'The mean price by size of the trades of the market, from the start to the end',
  against_twap           DOUBLE                    COMMENT 'How much worse average_price is',
  against_vwap           DOUBLE                    COMMENT 'How much worse average_price is',
  effective_spread       DOUBLE                    COMMENT 'Twice the distance of the fills from the mid when they came, by quantity',
  realised_spread        DOUBLE                    COMMENT 'Twice their distance from the mid a minute later, of those that are as old',
  against_book           DOUBLE                    COMMENT 'How much worse fills are than what the book offered for their child when it was decided',
  participation          DOUBLE                    COMMENT 'Traded, as a fraction of what others traded meanwhile',
  market_volume          DOUBLE                    COMMENT 'What others traded meanwhile, in contracts'
) WITH ('topic' = 'execution_quality.v1') LIKE kafka_json;
