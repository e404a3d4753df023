-- Topic execution_states.v1, keyed by account.  Append-only: how each large order of execution_parents stands, and why.
--
-- Grain     one row per parent and micro-batch in which its status, its figures or what holds it changed; one per refusal
-- Sum       traded, working and unsent quantity sum to quantity exactly; a row that is done has what was not sent
-- Delivery  at-least-once; account, parent_client_order_id and number name a row
CREATE TEMPORARY TABLE execution_states (
  account                STRING           NOT NULL,
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch in which it happened',
  parent_client_order_id STRING           NOT NULL,
  number                 BIGINT           NOT NULL COMMENT 'Counts the rows of the parent, from 1; 0 where there is no such parent',
  status                 STRING           NOT NULL COMMENT 'waiting: for its start; working, paused, halted; ending: children are being cancelled; done; refused',
  algorithm              STRING                    COMMENT 'twap, vwap, pov or iceberg',
  side                   STRING                    COMMENT 'buy or sell',
  quantity               DECIMAL(38, 18)           COMMENT 'Contracts',
  scheduled_quantity     DECIMAL(38, 18)           COMMENT 'Contracts that should be sent by now: of twap and vwap by the schedule, of pov by what others traded, of an iceberg all',
  traded_quantity        DECIMAL(38, 18)           COMMENT 'Contracts traded by its children, without what was undone',
  working_quantity       DECIMAL(38, 18)           COMMENT 'Contracts that a child may still trade: sent and neither traded nor back',
  unsent_quantity        DECIMAL(38, 18)           COMMENT 'The rest: never sent, or back untraded',
  average_price          DECIMAL(38, 18)           COMMENT 'Of what is traded, in the quote currency; NULL where it is nothing',
  market_volume          DECIMAL(38, 18)           COMMENT 'What others traded since it started, in contracts',
  child_count            BIGINT                    COMMENT 'New orders requested so far',
  held                   STRING                    COMMENT 'What holds a parent that has something to send: stale book, no book, unknown unit of its sizes, beyond limit, participation, depth, spread, halted or circuit break with what is stopped, refused with the check; NULL where nothing does',
  rule                   STRING                    COMMENT 'Of a refusal: the column that is wrong; NULL otherwise',
  reason                 STRING                    COMMENT 'Why it is refused, held or done, with figures'
) WITH ('topic' = 'execution_states.v1') LIKE kafka_json;
