-- account_messages: what does the shard of an account get, which needs to know all prices, books and halts?
--
-- Grain   one row per record of an account, and per shard for every other
-- State   the prices of the open windows
-- Late    what is late travels alone, as it came
CREATE TEMPORARY VIEW on_time_prices AS
SELECT event_at, message FROM inbox
WHERE topic NOT IN ('instruments.v1', 'positions.v1', 'balances.v1') AND NOT is_late AND message IS NOT NULL;

-- All prices of a batch travel as one text: it goes to every shard, and a row each would be many.
CREATE TEMPORARY VIEW gathered AS
SELECT shard, topic IN ('positions.v1', 'balances.v1') AS is_of_account, event_at, is_late, message FROM inbox
WHERE topic IN ('instruments.v1', 'positions.v1', 'balances.v1') OR is_late
UNION ALL
SELECT 0, FALSE, window_time, FALSE, ARRAY_JOIN(ARRAY_AGG(message), U&'\001E')
FROM TABLE(TUMBLE(TABLE on_time_prices, DESCRIPTOR(event_at), INTERVAL '${WINDOW}' SECOND))
GROUP BY window_start, window_end, window_time;

CREATE TEMPORARY VIEW account_messages AS
SELECT shards.shard, event_at, is_late, message
FROM gathered CROSS JOIN UNNEST(
  CASE WHEN is_of_account OR message IS NULL THEN ARRAY[gathered.shard] ELSE ARRAY[${SHARDS}] END
) AS shards (shard);
