"""Data: a simulated marketplace and a simulated experiment with known effects, and loaders of public sets."""

from causalrec.datasets._known import Roles
from causalrec.datasets.campaign import campaign_table, simulate_campaign
from causalrec.datasets.channels import ChannelLogs, ChannelsTruth, simulate_channels
from causalrec.datasets.digests import file_digest, frame_digest
from causalrec.datasets.loaders import (
    Dataset,
    data_directory,
    list_datasets,
    load_dataset,
    online_retail_purchases,
    retailrocket_events,
)
from causalrec.datasets.marketplace import Marketplace, MarketplaceTruth, simulate_marketplace
from causalrec.datasets.service import ServiceTruth, simulate_service, simulate_service_days

__all__ = [
    "ChannelLogs",
    "ChannelsTruth",
    "Dataset",
    "Marketplace",
    "MarketplaceTruth",
    "Roles",
    "ServiceTruth",
    "campaign_table",
    "data_directory",
    "file_digest",
    "frame_digest",
    "list_datasets",
    "load_dataset",
    "online_retail_purchases",
    "retailrocket_events",
    "simulate_campaign",
    "simulate_channels",
    "simulate_marketplace",
    "simulate_service",
    "simulate_service_days",
]
