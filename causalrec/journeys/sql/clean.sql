-- The events beside the name of the rule that drops them, the first that does; no name where they stay.
-- Rules look at the log as it was, not at what other rules leave.
SELECT
    marked.*,
    CASE
        WHEN (__mark & :nulls) <> 0 THEN 'nulls'
        WHEN (__mark & :skew) <> 0 THEN 'skew'
        WHEN __copy > :copies THEN 'duplicates'
        WHEN of_users.several = :several THEN 'several_variants'
        WHEN of_users.busiest_day > :per_day OR of_users.busiest_minute > :per_minute THEN 'bots'
        ELSE ''
    END AS __dropped_by
FROM (
    SELECT
        e.*, :user AS __user, :mark AS __mark,
        :copy AS __copy
    FROM :events
) marked
LEFT JOIN (:of_users) of_users ON of_users.user_id = marked.__user
