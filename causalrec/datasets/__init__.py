"""Data: a simulated marketplace with known effects, and loaders of public sets."""

from causalrec.datasets.digests import file_digest, frame_digest
from causalrec.datasets.loaders import (
    Dataset,
    Roles,
    data_directory,
    list_datasets,
    load_dataset,
    online_retail_purchases,
    retailrocket_events,
)
from causalrec.datasets.marketplace import Marketplace, MarketplaceTruth, simulate_marketplace

__all__ = [
    "Dataset",
    "Marketplace",
    "MarketplaceTruth",
    "Roles",
    "data_directory",
    "file_digest",
    "frame_digest",
    "list_datasets",
    "load_dataset",
    "online_retail_purchases",
    "retailrocket_events",
    "simulate_marketplace",
]
