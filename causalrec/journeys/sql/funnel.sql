-- Conversion funnel: how many units of each variant took the steps in order, all of them within a window of time.
-- A unit is a user, or a user and an item. Events at the same time are in order. A chain of steps fits into the window
-- best if it begins late: begun_k is the latest first step from which a chain leads to this event of step k.
WITH chain_1 AS (
    SELECT *, CASE WHEN step = 1 THEN event_us END AS begun_1
    FROM (
        SELECT :variant AS variant, :user AS user_id, :item AS item_id, :at AS event_us, :step AS step
        FROM :events
    ) log
    WHERE step IS NOT NULL AND user_id IS NOT NULL AND item_id IS NOT NULL AND event_us IS NOT NULL
),
-- for each later step k, after step j
chain_:k AS (
    SELECT *, CASE WHEN step = :k AND event_us - latest_:j <= :window THEN latest_:j END AS begun_:k
    FROM (
        SELECT *, MAX(begun_:j) OVER (PARTITION BY variant, user_id, item_id ORDER BY event_us) AS latest_:j
        FROM chain_:j
    ) before
),
-- end
units AS (
    SELECT
        variant,
        -- for each later step k, after step j
        COUNT(begun_:k) AS n_:k,
        -- end
        COUNT(begun_1) AS n_1
    FROM chain_:last
    GROUP BY variant, user_id, item_id
)
SELECT
    variant,
    -- for each later step k, after step j
    SUM(CASE WHEN n_:k > 0 THEN 1 ELSE 0 END) AS units_:k,
    -- end
    SUM(CASE WHEN n_1 > 0 THEN 1 ELSE 0 END) AS units_1
FROM units
GROUP BY variant
