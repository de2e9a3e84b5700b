-- Data quality: what is wrong with a log, counted in one scan. Rows without a user are in it with no busiest day.
-- A row of the result holds the users with the same busiest day and minute, so that limits for bots can be set by what is
-- usual; the rows add up to the totals. A user stands for each kind as an example.
SELECT
    busiest_day,
    busiest_minute,
    COUNT(who) AS users,
    MIN(who) AS example,
    MIN(first_us) AS first_us,
    MAX(last_us) AS last_us,
    -- for each kind k of mark
    SUM(marked_:k) AS events_:k,
    SUM(CASE WHEN marked_:k > 0 AND who IS NOT NULL THEN 1 ELSE 0 END) AS users_:k,
    MIN(CASE WHEN marked_:k > 0 THEN who END) AS example_:k,
    -- end
    SUM(CASE WHEN several = 1 THEN n_rows ELSE 0 END) AS events_several,
    SUM(several) AS users_several,
    MIN(CASE WHEN several = 1 THEN who END) AS example_several,
    SUM(copies) AS events_copies,
    SUM(CASE WHEN copies > 0 AND who IS NOT NULL THEN 1 ELSE 0 END) AS users_copies,
    MIN(CASE WHEN copies > 0 THEN who END) AS example_copies,
    SUM(n_rows) AS n_rows
FROM (
    SELECT
        CAST(user_id AS STRING) AS who, first_us, last_us, n_rows, copies,
        CASE WHEN user_id IS NULL THEN 0 ELSE several END AS several,
        CASE WHEN user_id IS NULL THEN 0 ELSE busiest_day END AS busiest_day,
        -- for each kind k of mark
        marked_:k,
        -- end
        CASE WHEN user_id IS NULL THEN 0 ELSE busiest_minute END AS busiest_minute
    FROM (:of_users) of_users
) users
GROUP BY busiest_day, busiest_minute
