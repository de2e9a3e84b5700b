-- Daily active users: how many users had an event on each UTC day, by variant.
-- A user who is seen in two variants on a day counts in both. Events without a user or a time are counted apart.
SELECT
    day,
    variant,
    COUNT(DISTINCT user_id) AS users,
    COUNT(user_id) AS events,
    SUM(CASE WHEN user_id IS NULL OR day IS NULL THEN 1 ELSE 0 END) AS left_out
FROM (
    SELECT :user AS user_id, :day AS day, :variant AS variant
    FROM :events
    WHERE :counted
) log
GROUP BY day, variant
