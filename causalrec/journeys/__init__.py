"""From raw logs to journeys: sessions, stitched events, credit, data quality, reports."""
