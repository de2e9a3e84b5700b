-- What is wrong with the events of each user, and how many there are in the busiest UTC day and minute, copies apart.
-- The marks of an event are the bits of a number.
WITH log AS (
    SELECT
        :user AS user_id,
        :at AS event_us,
        :variant AS variant,
        :row_hash AS row_hash,
        :mark AS mark
    FROM :events
),
different AS (          -- equal rows are of the same user, minute and hash
    SELECT
        user_id, minute,
        MIN(event_us) AS event_us, MIN(variant) AS variant, MIN(mark) AS mark, COUNT(*) AS n_rows
    FROM (SELECT *, CAST(FLOOR(event_us / 60e6) AS BIGINT) AS minute FROM log) events
    GROUP BY user_id, minute, row_hash
),
minutes AS (
    SELECT
        user_id, minute,
        MIN(event_us) AS first_us, MAX(event_us) AS last_us,
        MIN(variant) AS low_variant, MAX(variant) AS high_variant,
        -- for each kind k of mark
        SUM(CASE WHEN (mark & :bits) <> 0 THEN n_rows ELSE 0 END) AS marked_:k,
        -- end
        COUNT(*) AS n, SUM(n_rows) AS n_rows
    FROM different
    GROUP BY user_id, minute
),
days AS (
    SELECT
        user_id,
        MIN(first_us) AS first_us, MAX(last_us) AS last_us,
        MIN(low_variant) AS low_variant, MAX(high_variant) AS high_variant,
        CASE WHEN day IS NULL THEN 0 ELSE SUM(n) END AS n_day,
        CASE WHEN day IS NULL THEN 0 ELSE MAX(n) END AS n_minute,
        -- for each kind k of mark
        SUM(marked_:k) AS marked_:k,
        -- end
        SUM(n) AS n, SUM(n_rows) AS n_rows
    FROM (SELECT *, CAST(FLOOR(minute / 1440e0) AS BIGINT) AS day FROM minutes) of_day
    GROUP BY user_id, day
)
SELECT
    user_id,
    MIN(first_us) AS first_us, MAX(last_us) AS last_us,
    CASE WHEN MIN(low_variant) <> MAX(high_variant) THEN 1 ELSE 0 END AS several,
    MAX(n_day) AS busiest_day, MAX(n_minute) AS busiest_minute,
    -- for each kind k of mark
    SUM(marked_:k) AS marked_:k,
    -- end
    SUM(n_rows) - SUM(n) AS copies, SUM(n_rows) AS n_rows
FROM days
GROUP BY user_id
