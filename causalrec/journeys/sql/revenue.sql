-- Revenue by segment: users seen, buyers, purchases (events with revenue above zero), and revenue, returns taken off.
-- Amounts are added to the millionth, which has no rounding, so the order of the rows does not matter.
SELECT
    segment,
    COUNT(user_id) AS users,
    SUM(CASE WHEN user_id IS NOT NULL AND purchases > 0 THEN 1 ELSE 0 END) AS buyers,
    SUM(purchases) AS purchases,
    CAST(SUM(revenue) AS DOUBLE) AS revenue,
    CAST(SUM(CASE WHEN user_id IS NOT NULL THEN revenue END) AS DOUBLE) AS revenue_of_users,
    SUM(n) AS events,
    SUM(CASE WHEN user_id IS NULL THEN n ELSE 0 END) AS no_user,
    SUM(no_revenue) AS no_revenue,
    SUM(beyond) AS beyond
FROM (
    SELECT
        segment,
        user_id,
        COUNT(*) AS n,
        SUM(CASE WHEN amount > 0 THEN 1 ELSE 0 END) AS purchases,
        SUM(CAST(ROUND(amount, 6) AS DECIMAL(28, 6))) AS revenue,
        SUM(CASE WHEN known THEN 0 ELSE 1 END) AS no_revenue,
        SUM(CASE WHEN known AND amount IS NULL THEN 1 ELSE 0 END) AS beyond
    FROM (
        SELECT :segment AS segment, :user AS user_id, :amount AS amount, :known AS known
        FROM :events
    ) log
    GROUP BY segment, user_id
) of_users
GROUP BY segment
