-- oracle_faults: which source of an oracle is frozen, withheld, delayed, deviating or stepping back in time, and which coin is no dollar?
--
-- Grain   one row per fault, and one per its end
-- Shard   a row is written into the partition of its inputs: they have its key
-- State   the last ten rows of each source
-- Time    the record timestamp of oracle_sources: a fault is found with the row that shows it
-- Late    no row is late: the heartbeats of oracle_sources follow its rows

SET 'gammaflow.reads' = 'oracle_sources';
SET 'gammaflow.writes' = 'oracle_faults';
SET 'gammaflow.tells-time' = 'oracle_faults';

CREATE TEMPORARY TABLE inputs (
  recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  event_at AS recorded_at,
  -- Only heartbeats tell the time: they come after all rows of theirs.
  WATERMARK FOR event_at AS CASE WHEN `value` IS NULL THEN recorded_at END
) WITH ('topic' = '${TOPICS}') LIKE kafka_records (EXCLUDING METADATA EXCLUDING WATERMARKS);

-- Grain   one row per source and 100 ms, with the fault that it shows: the worst that applies, 0 for none
--         5  stepping back   its time stepped back by half a second or more
--         4  withheld        it has been silent for longer than its habit allows
--         3  frozen          it has gone on speaking, but its price has been the same for longer than its habit allows, while the others
--                            moved, there and back or not: by half a basis point.  Of a book, whose prices come in bursts:
--                            by ten, and it is half as far from them
--         2  delayed         it speaks and changes, but is where the others were a second, or a fifth of its limit, ago
--         1  deviating       it speaks, and is where the others have not been in ten seconds; or the consensus is no dollar
CREATE TEMPORARY VIEW signs AS
SELECT
  `partition`, event_at, underlying, source, kind, price_usd, consensus_usd, deviation, silent_ms, limit_ms, still_ms,
  still_limit_ms, lag_ms, lag_limit_ms, step_back_ms,
  CASE
    WHEN kind = 'consensus' THEN IF(ABS(deviation) > 0.02, 1, 0)
    WHEN step_back_ms >= 500 THEN 5
    WHEN silent_ms > limit_ms THEN 4
    WHEN still_ms > still_limit_ms
      AND IF(limit_ms IS NULL, ABS(moved) >= 0.001 AND ABS(deviation) >= ABS(moved) / 2, ABS(moved) >= 0.00005 AND age_ms <= still_ms / 2)
      THEN 3
    WHEN kind <> 'last' AND lag_ms >= lag_limit_ms AND lag_ms > still_ms AND ABS(deviation) >= 0.002 THEN 2
    WHEN (silent_ms <= 2000 OR kind IN ('mid', 'perpetual')) AND lag_ms IS NULL AND ABS(deviation) > 0.01 THEN 1
    ELSE 0
  END AS sign
FROM (
  SELECT
    `partition`, event_at, underlying, source, kind, price_usd, consensus_usd, deviation, age_ms, silent_ms, limit_ms, still_ms,
    still_limit_ms, moved, lag_ms, CAST(step_back_ms AS DOUBLE) AS step_back_ms,
    GREATEST(1e3, COALESCE(limit_ms, still_limit_ms) / 5) AS lag_limit_ms
  FROM oracle_sources
  WHERE underlying IS NOT NULL AND source IS NOT NULL
);

-- Grain   the same, each sign kept for a second: one that comes and goes is one fault.  The first row of a source shows none, so
--         that each fault has a row before it
CREATE TEMPORARY VIEW held AS
SELECT
  `partition`, event_at, underlying, source, kind, price_usd, consensus_usd, deviation, silent_ms, limit_ms, still_ms,
  still_limit_ms, lag_ms, lag_limit_ms, step_back_ms,
  IF(COUNT(*) OVER last_second = 1, 0, MAX(COALESCE(sign, 0)) OVER last_second) AS fault
FROM signs
WINDOW last_second AS (
  PARTITION BY `partition`, underlying, source ORDER BY event_at ROWS BETWEEN 9 PRECEDING AND CURRENT ROW
);

-- Grain   one row per source and change of its fault: from one to none, from none to one, or from one to another
CREATE TEMPORARY VIEW changes AS
SELECT *
FROM held MATCH_RECOGNIZE (
  PARTITION BY `partition`, underlying, source
  ORDER BY event_at
  MEASURES
    earlier.fault AS old_fault,
    later.fault AS new_fault,
    later.kind AS kind,
    later.price_usd AS price_usd,
    later.consensus_usd AS consensus_usd,
    later.deviation AS deviation,
    later.silent_ms AS silent_ms,
    later.limit_ms AS limit_ms,
    later.still_ms AS still_ms,
    later.still_limit_ms AS still_limit_ms,
    later.lag_ms AS lag_ms,
    later.lag_limit_ms AS lag_limit_ms,
    later.step_back_ms AS step_back_ms,
    MATCH_ROWTIME() AS closed_at
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO LAST later
  PATTERN (earlier later)
  DEFINE later AS later.fault <> earlier.fault
);

-- Grain   one row per beginning and per end of a fault
CREATE TEMPORARY VIEW faults AS
SELECT TRUE AS is_over, old_fault AS fault, changes.* FROM changes WHERE old_fault > 0
UNION ALL
SELECT FALSE, new_fault, changes.* FROM changes WHERE new_fault > 0;

-- The runner writes these, in the order of `closed_at`, with heartbeats among them (engine/_heartbeats.sql).
CREATE TEMPORARY VIEW oracle_faults_rows (
  `partition`, closed_at, `key`, recorded_at, underlying, source, kind, event_at, is_over, measured, allowed, unit,
  price_usd, consensus_usd
) AS
SELECT
  `partition`,
  closed_at,
  underlying,
  CAST(closed_at AS TIMESTAMP_LTZ(3)),
  underlying,
  source,
  CASE
    WHEN kind = 'consensus' THEN 'depegged'
    ELSE ELT(fault, 'deviating', 'delayed', 'frozen', 'withheld', 'stepping_back')
  END,
  -- A row of oracle_sources is of the 100 ms that end a millisecond after its timestamp.
  CAST(closed_at + INTERVAL '0.001' SECOND AS TIMESTAMP_LTZ(3)),
  is_over,
  CASE fault WHEN 1 THEN ABS(deviation) WHEN 2 THEN lag_ms WHEN 3 THEN still_ms WHEN 4 THEN silent_ms ELSE step_back_ms END,
  CASE fault
    WHEN 1 THEN IF(kind = 'consensus', 0.02e0, 0.01e0) WHEN 2 THEN lag_limit_ms WHEN 3 THEN still_limit_ms WHEN 4 THEN limit_ms
    ELSE 500e0
  END,
  IF(fault = 1, 'fraction', 'ms'),
  price_usd,
  consensus_usd
FROM faults;
