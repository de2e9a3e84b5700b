-- Retention: of the users first seen on a UTC day, how many had an event exactly 1, 7, ... days later.
-- Days after the first that nobody asks for come together as -1, so that the last day of the log is known.
SELECT first_day, days_after, COUNT(*) AS users, MAX(day) AS last_day
FROM (
    SELECT first_day, day, CASE WHEN day - first_day IN (:days) THEN day - first_day ELSE -1 END AS days_after
    FROM (
        SELECT day, MIN(day) OVER (PARTITION BY user_id) AS first_day
        FROM (
            SELECT DISTINCT :user AS user_id, :day AS day
            FROM :events
            WHERE :counted AND :user IS NOT NULL AND :at IS NOT NULL
        ) active
    ) seen
) asked
GROUP BY first_day, days_after
