-- Conversion funnel: how many units of each variant took the steps in order, all of them within a window of time.
-- A unit is a user, or a user and an item. Events at the same time are in order. A chain of steps fits into the window
-- best if it begins late: an event of chain_k begins at the latest first step from which the steps lead to it.
-- Variants are numbers, which are faster to compare than their names.
WITH log AS (
    SELECT :variant_number AS variant, :user AS user_id, :item AS item_id, :at AS event_us, :step AS step
    FROM :events
    WHERE :user IS NOT NULL AND :item IS NOT NULL AND :at IS NOT NULL
),
chain_1 AS (
    SELECT variant, user_id, item_id, event_us, event_us AS begun, 1 AS step FROM log WHERE step = 1
)
-- for each later step k, after step j
, chain_:k AS (
    SELECT variant, user_id, item_id, event_us, latest AS begun, step
    FROM (
        SELECT *, MAX(begun) OVER (PARTITION BY variant, user_id, item_id ORDER BY event_us) AS latest
        FROM (
            SELECT variant, user_id, item_id, event_us, begun, step FROM chain_:j
            UNION ALL
            SELECT variant, user_id, item_id, event_us, NULL, :k FROM log WHERE step = :k
        ) both_steps
    ) before
    WHERE step = :k AND event_us - latest <= :window
)
-- end
SELECT variant, deepest, COUNT(*) AS units
FROM (
    SELECT variant, user_id, item_id, MAX(step) AS deepest
    FROM (
        SELECT variant, user_id, item_id, step FROM chain_1
        -- for each later step k, after step j
        UNION ALL SELECT variant, user_id, item_id, step FROM chain_:k
        -- end
    ) reached
    GROUP BY variant, user_id, item_id
) units
GROUP BY variant, deepest
