-- Topic circuit_breaks.v1, keyed by subject.  Append-only.
--
-- Grain   one row per break of a rule, per state before it that is told, and per end; of one break_id the newest by event time counts
-- Stops   what is named: of venue, instrument and underlying those that are not NULL must all be an order's own
CREATE TEMPORARY TABLE circuit_breaks (
  break_id       STRING           NOT NULL COMMENT 'rule/subject/instant: the same in all rows of one break',
  subject        STRING           NOT NULL COMMENT 'What was watched: venue:instrument, of an index venue:underlying:currency, or of an oracle the underlying',
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Since when, in the common time of all venues: the end of the micro-batch that decided',
  rule           STRING           NOT NULL COMMENT 'Its name in its set',
  kind           STRING           NOT NULL COMMENT 'price_band, fill_band, maker_band, order_price_protection, price_range, price_variation, dynamic, session_limit, market_wide, deviation, volatility, luld, spread, depth or oracle_fault',
  state          STRING           NOT NULL COMMENT 'limit (the price is at its band, and nothing stops yet), halted, or resumed',
  is_halted      BOOLEAN          NOT NULL COMMENT 'Whether trading of what is named stops from then on',
  venue          STRING                    COMMENT 'Of what stops; NULL where it is an underlying',
  instrument     STRING                    COMMENT 'Of what stops; NULL where it is more than one instrument',
  underlying     STRING                    COMMENT 'Of what stops; NULL where it is an instrument or a venue',
  passes_exits   BOOLEAN                   COMMENT 'Whether orders that only reduce a position pass; NULL is no',
  observed_at    TIMESTAMP_LTZ(3)          COMMENT 'Exchange time of what decided; NULL where the time alone did',
  figure         DOUBLE                    COMMENT 'What was observed: a price, a spread or volatility as a fraction, a depth',
  reference      DOUBLE                    COMMENT 'What it was compared with: a mark, an index, a settlement, a mean',
  lower_limit    DOUBLE,
  upper_limit    DOUBLE,
  planned_end_at TIMESTAMP_LTZ(3)          COMMENT 'Of a halt, in the common time; NULL where it ends when its condition does. Of a limit state: when it becomes a halt',
  reason         STRING           NOT NULL COMMENT 'Why, with the figures that led to it'
) WITH ('topic' = 'circuit_breaks.v1') LIKE kafka_json;
