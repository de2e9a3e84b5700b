-- Copies, users in several variants, and what may be bots. A row of the result holds the users with the same busiest day
-- and minute, so that limits can be set by what is usual; the rows add up to the totals. Rows without a user are of
-- nobody, who has no busiest day. A user stands for each kind as an example.
SELECT
    busiest_day,
    busiest_minute,
    COUNT(who) AS users,
    MIN(who) AS example,
    SUM(CASE WHEN several = 1 THEN n_rows ELSE 0 END) AS events_several,
    SUM(several) AS users_several,
    MIN(CASE WHEN several = 1 THEN who END) AS example_several,
    SUM(copies) AS events_copies,
    SUM(CASE WHEN copies > 0 AND who IS NOT NULL THEN 1 ELSE 0 END) AS users_copies,
    MIN(CASE WHEN copies > 0 THEN who END) AS example_copies,
    SUM(n_rows) AS n_rows
FROM (
    SELECT
        CAST(user_id AS STRING) AS who, copies, n_rows,
        CASE WHEN user_id IS NULL THEN 0 ELSE several END AS several,
        CASE WHEN user_id IS NULL THEN 0 ELSE busiest_day END AS busiest_day,
        CASE WHEN user_id IS NULL THEN 0 ELSE busiest_minute END AS busiest_minute
    FROM (:of_users) of_users
) users
GROUP BY busiest_day, busiest_minute
