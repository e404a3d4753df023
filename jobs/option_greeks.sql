-- option_greeks: what is each option worth, and what are its Greeks, each time its ticker speaks?
--
-- Grain   one row per option and instant of its tickers
-- State   the contract terms of each option, and what its tickers told last (kernels/option_greeks.py); freed a day after expiry
-- Late    a ticker behind the watermark still gets its row, at its own event time

CREATE TEMPORARY TABLE inputs WITH ('topic' = 'instruments.v1;tickers.v1') LIKE kafka_records;

-- Terms and tickers share the key venue:instrument, and so the partition and the shard.
CREATE TEMPORARY VIEW messages AS
SELECT shard, event_at, is_late, message FROM inbox;

-- kernels/option_greeks.py turns `messages` into `records`.

INSERT INTO option_greeks_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'option_greeks';

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';
