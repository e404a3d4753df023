-- Topic position_margin.v1, keyed by account.  Append-only: what each position does to its account's margin.
--
-- Grain   one row per instrument that an account holds, with each row of account_margin; those of one event_at are all it holds
CREATE TEMPORARY TABLE position_margin (
  account                STRING           NOT NULL,
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'As of the row of account_margin',
  size                   DOUBLE           NOT NULL COMMENT 'Contracts; short is negative',
  mark_price             DOUBLE                    COMMENT 'In the quote currency; NULL where none is known',
  initial_margin_usd     DOUBLE                    COMMENT 'Standard margin of the position by itself, times the factor of its underlying, whatever the account''s model; NULL where a price is missing',
  maintenance_margin_usd DOUBLE                    COMMENT 'Likewise',
  contribution_usd       DOUBLE                    COMMENT 'What it adds to the account''s maintenance margin: by standard its own; by portfolio margin its loss in the worst scenario times the set''s factor, and its contingencies, negative where it offsets others. With what coins add they sum to it',
  worst_scenario         STRING                    COMMENT 'Portfolio margin: in which the account loses most on this underlying; NULL where it loses in none, and of standard margin',
  worst_loss_usd         DOUBLE                    COMMENT 'Portfolio margin: what the position loses in that, negative where it gains; NULL of standard margin'
) WITH ('topic' = 'position_margin.v1') LIKE kafka_json;
