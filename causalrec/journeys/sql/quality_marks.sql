-- What is wrong with events by themselves. The mark of an event has a bit for each thing; the pattern of a user has every
-- bit that one of the user's events has. A user counts once: in the row with the lowest of the user's marks.
SELECT
    mark,
    pattern,
    SUM(n) AS events,
    SUM(CASE WHEN mark = lowest AND user_id IS NOT NULL THEN 1 ELSE 0 END) AS users,
    MIN(CAST(user_id AS STRING)) AS example,
    MIN(first_us) AS first_us,
    MAX(last_us) AS last_us
FROM (
    SELECT
        *, BIT_OR(mark) OVER (PARTITION BY user_id) AS pattern, MIN(mark) OVER (PARTITION BY user_id) AS lowest
    FROM (
        SELECT user_id, mark, COUNT(*) AS n, MIN(event_us) AS first_us, MAX(event_us) AS last_us
        FROM (SELECT :user AS user_id, :at AS event_us, :mark AS mark FROM :events) log
        GROUP BY user_id, mark
    ) of_user
) patterns
GROUP BY mark, pattern
