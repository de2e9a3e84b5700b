-- Of each user: whether there are several variants, how many different events in the busiest UTC day and minute, and how
-- many copies of events.
WITH different AS (          -- equal rows are of the same user, minute and hash
    SELECT user_id, minute, MIN(variant) AS variant, COUNT(*) AS n_rows
    FROM (
        SELECT
            :user AS user_id, CAST(FLOOR(:at / 60e6) AS BIGINT) AS minute, :variant AS variant, :row_hash AS row_hash
        FROM :events
    ) log
    GROUP BY user_id, minute, row_hash
),
minutes AS (
    SELECT
        user_id, minute, MIN(variant) AS low_variant, MAX(variant) AS high_variant,
        CASE WHEN minute IS NULL THEN 0 ELSE COUNT(*) END AS n, COUNT(*) AS n_different, SUM(n_rows) AS n_rows
    FROM different
    GROUP BY user_id, minute
),
days AS (
    SELECT
        user_id, MIN(low_variant) AS low_variant, MAX(high_variant) AS high_variant,
        SUM(n) AS n_day, MAX(n) AS n_minute, SUM(n_different) AS n_different, SUM(n_rows) AS n_rows
    FROM (SELECT *, CAST(FLOOR(minute / 1440e0) AS BIGINT) AS day FROM minutes) of_day
    GROUP BY user_id, day
)
SELECT
    user_id,
    CASE WHEN MIN(low_variant) <> MAX(high_variant) THEN 1 ELSE 0 END AS several,
    MAX(n_day) AS busiest_day,
    MAX(n_minute) AS busiest_minute,
    SUM(n_rows) - SUM(n_different) AS copies,
    SUM(n_rows) AS n_rows
FROM days
GROUP BY user_id
