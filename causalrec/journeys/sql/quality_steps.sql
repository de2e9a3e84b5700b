-- Steps out of order: units (a user, or a user and an item) that took step k although they had not taken step j, or not
-- yet. At the same time is in order.
SELECT
    -- for each later step k, after step j
    SUM(CASE WHEN first_:k IS NOT NULL THEN 1 ELSE 0 END) AS units_:k,
    SUM(CASE WHEN first_:k < first_:j OR (first_:k IS NOT NULL AND first_:j IS NULL) THEN 1 ELSE 0 END) AS early_:k,
    MIN(CASE WHEN first_:k < first_:j OR (first_:k IS NOT NULL AND first_:j IS NULL) THEN who END) AS example_:k,
    COUNT(DISTINCT CASE WHEN first_:k < first_:j OR (first_:k IS NOT NULL AND first_:j IS NULL) THEN who END) AS users_:k,
    -- end
    COUNT(*) AS units
FROM (
    SELECT
        CAST(user_id AS STRING) AS who,
        -- for each later step k, after step j
        MIN(CASE WHEN step = :k THEN event_us END) AS first_:k,
        -- end
        MIN(CASE WHEN step = 1 THEN event_us END) AS first_1
    FROM (SELECT :user AS user_id, :item AS item_id, :at AS event_us, :step AS step FROM :events) log
    WHERE step IS NOT NULL AND user_id IS NOT NULL AND item_id IS NOT NULL AND event_us IS NOT NULL
    GROUP BY user_id, item_id
) units
