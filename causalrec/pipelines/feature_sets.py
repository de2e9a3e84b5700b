"""Feature sets from the config, one per entity."""

from __future__ import annotations

from collections.abc import Sequence

from causalrec.config import AggregationConfig, EventsConfig, RunConfig
from causalrec.exceptions import ColumnError
from causalrec.features import Aggregation, FeatureSet


def feature_set(
    name: str, keys: Sequence[str], aggregations: Sequence[AggregationConfig], config: RunConfig
) -> FeatureSet:
    """The feature set of an entity, from the config's aggregations over the event log."""
    events = config.events
    if events is None:
        raise ColumnError(f"features.{name} are configured but there are no events: add an `events:` section.")
    return FeatureSet(
        name=f"{config.name}_{name}",
        keys=tuple(keys),
        source=events.table,
        time_column=events.time,
        aggregations=tuple(Aggregation(**a.model_dump()) for a in aggregations),
    )


def feature_sets(config: RunConfig, events: EventsConfig) -> list[FeatureSet]:
    """The configured feature sets, one per entity."""
    return [
        feature_set(name, keys, aggregations, config)
        for name, keys, aggregations in (
            ("user", [events.user], config.features.user),
            ("item", [events.item], config.features.item),
            ("user_item", [events.user, events.item], config.features.user_item),
        )
        if aggregations
    ]
