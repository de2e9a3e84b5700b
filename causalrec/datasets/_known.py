"""The public files that are known: where each may lie, its columns, their roles, source, licence and hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Roles:
    """Which column plays which part; None or empty where there is none."""

    unit: str | None = None
    treatment: str | None = None
    control: object = None
    outcomes: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    time: str | None = None
    user: str | None = None
    item: str | None = None
    event_type: str | None = None
    value: str | None = None
    propensity: str | None = None
    cluster: str | None = None  # who was assigned, where a row is less than that


@dataclass(frozen=True)
class Known:
    """A public file: where it may lie below a data directory (the whole before a sample), its columns, known hashes."""

    files: tuple[str, ...]
    columns: tuple[str, ...]
    roles: Roles
    source: str
    licence: str
    hashes: Mapping[str, str]  # sha256 by file name
    url: str | None = None


HILLSTROM_CSV = "Kevin_Hillstrom_MineThatData_E-MailAnalytics_DataMiningChallenge_2008.03.20.csv"
_HILLSTROM_COVARIATES = ("recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel")
_SOCIAL_PRESSURE_COVARIATES = (
    "sex", "yob", "g2000", "g2002", "g2004", "p2000", "p2002", "p2004", "hh_size"
)  # fmt: skip
_LALONDE = {  # the samples of LaLonde 1986 by the file they lie in, and its hash
    "lalonde_nsw": ("nsw.csv", "b528e16c6842cf98d074d8235d66386ad32020930271db65873876f90fc20e7d"),
    "lalonde_nsw_dw": ("nsw_dw.csv", "61e88e85fd24b09aa4f5fd24f9d62511e0674dbf3ec3d3d691cf5a0c2c3aa9b7"),
    "lalonde_cps": ("cps_controls.csv", "db16b7cfd159f295d82ddb68f4a4fbfc9fa64f8f81e09b62f8ad6806dee0bd4c"),
    "lalonde_cps2": ("cps_controls2.csv", "714a485ed2d3620dbce7845041ab2b7654bf9112a46cb071c9007eb909c5530c"),
    "lalonde_cps3": ("cps_controls3.csv", "7ba69d9629f3c4ca5fdf6a90db7e879f231d3402c0db2ca64287436d0d3e0ec7"),
    "lalonde_psid": ("psid_controls.csv", "284d655d3b435d3eae5183d19c563505a050a2b4d066f42a51c83a1d59e806df"),
    "lalonde_psid2": ("psid_controls2.csv", "f968a6ff71456b2c355a565afc02a831d2595c6dbbeffa43e1ab55e270270134"),
    "lalonde_psid3": ("psid_controls3.csv", "5c9358d527462151766b074da1245a4c9bc6840407e4ac43cfc88b7e4b97ec97"),
    "lalonde_matchit": ("matchit_lalonde.csv", "458b5fab8431dbff95fa1510b6f126443a4cbc30b7833b636d912fe4eb652f58"),
}  # fmt: skip
_LALONDE_COVARIATES = ("age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75")
_NHEFS_COVARIATES = (
    "sex", "race", "age", "education", "smokeintensity", "smokeyrs", "exercise", "active", "wt71"
)  # fmt: skip


def _lalonde(name: str, file: str, digest: str) -> Known:
    """Trainees with their experimental controls (nsw), or controls of a survey (cps, psid), who are all untreated."""
    covariates = tuple(c for c in _LALONDE_COVARIATES if (name, c) != ("lalonde_nsw", "re74"))
    if name == "lalonde_matchit":
        covariates = ("age", "educ", "race", "married", "nodegree", "re74", "re75")
    return Known(
        (f"lalonde/{file}",), ("treat", *covariates, "re78"), Roles("row_id", "treat", 0, ("re78",), covariates),
        "National Supported Work, LaLonde 1986; Dehejia and Wahba 1999", "none stated", {file: digest},
    )  # fmt: skip


KNOWN: dict[str, Known] = {
    "hillstrom": Known(
        ("hillstrom/hillstrom.parquet", f"hillstrom/{HILLSTROM_CSV}"),
        (*_HILLSTROM_COVARIATES, "segment", "visit", "conversion", "spend"),
        Roles("customer_id", "segment", "No E-Mail", ("visit", "conversion", "spend"), _HILLSTROM_COVARIATES),
        "MineThatData E-Mail Analytics Challenge, Kevin Hillstrom, 2008", "none stated",
        {"hillstrom.parquet": "5404c208319ad7ae2bbc2853e93cd2bee41b09d0d5d4aee566146b07ab4a3e49",
         HILLSTROM_CSV: "27bab8c5d3669f26ec08ebb50a0a78317542f29501156f2e2af6781fab4cd7e2"},
        f"http://www.minethatdata.com/{HILLSTROM_CSV}",
    ),
    "criteo_uplift": Known(
        ("criteo_uplift/criteo-uplift-v2.1.csv", "criteo_uplift/criteo-uplift-v2.1.csv.gz",
         "criteo_uplift/criteo_uplift_v2.1_sample_10k.parquet"),
        (*(f"f{i}" for i in range(12)), "treatment", "conversion", "visit", "exposure"),
        Roles("row_id", "treatment", 0, ("visit", "conversion"), tuple(f"f{i}" for i in range(12))),
        "Criteo uplift prediction v2.1, Diemert et al. 2018", "CC BY-NC-SA 4.0",
        {"criteo_uplift_v2.1_sample_10k.parquet": "c7779f20c00b39e9dd39e5197bca169b601ad554fbc72ad0e7e3d54fa0cba5ac"},
    ),
    "online_retail": Known(
        ("online_retail/online_retail.parquet", "online_retail/online_retail.csv"),
        ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"),
        Roles(time="InvoiceDate", user="CustomerID", item="StockCode"),
        "Online Retail, Daqing Chen, UCI Machine Learning Repository", "CC BY 4.0",
        {"online_retail.parquet": "240f47af1447fcac03765453c6eda598513eb2c1c630bbf52e61359ac5dfe891"},
    ),
    "retailrocket": Known(
        ("retailrocket/events.csv", "retailrocket/sample_events.csv"),
        ("timestamp", "visitorid", "event", "itemid", "transactionid"),
        Roles(time="timestamp", user="visitorid", item="itemid", event_type="event"),
        "Retailrocket recommender system dataset", "CC BY-NC-SA 4.0",
        {"sample_events.csv": "e39974339b517848fc4ba8666836b5af261b62cb1d20dd42c74eac5d9dd5725c"},
    ),
    "open_bandit": Known(
        ("open_bandit/random_all.parquet",),
        ("timestamp", "item_id", "position", "click", "propensity_score"),
        Roles(time="timestamp", item="item_id", outcomes=("click",), propensity="propensity_score"),
        "Open Bandit Dataset (small), ZOZO Research, Saito et al. 2020", "CC BY 4.0",
        {},
    ),
    "marketing_ab": Known(
        ("marketing_ab/marketing_AB.csv", "marketing_ab/marketing_AB_sample_46k.parquet"),
        ("user id", "test group", "converted", "total ads", "most ads day", "most ads hour"),
        Roles("user id", "test group", "psa", ("converted",)),
        "Marketing A/B Testing, Kaggle user faviovaz", "see its page",
        {"marketing_AB_sample_46k.parquet": "3333f530be94973ff909df25c2bbf1aa3262538e113fa5df3ce0d98e0e86cd02"},
    ),
    "marketing_ab_by_day": Known(
        ("marketing_ab/full_counts_by_day_and_group.csv",),
        ("most ads day", "test group", "n_users", "n_converted"),
        Roles(treatment="test group", control="psa", outcomes=("n_converted",)),
        "Exact counts of all 588,101 users of Marketing A/B Testing by day", "see its page",
        {"full_counts_by_day_and_group.csv": "51eae23905f1e220fb15806384ea3ffe4bf317fe0e356441f2e0a8d30acddd0b"},
    ),
    "marketing_ab_by_ads": Known(
        ("marketing_ab/full_counts_by_total_ads_bucket_and_group.csv",),
        ("total ads bucket", "test group", "n_users", "n_converted"),
        Roles(treatment="test group", control="psa", outcomes=("n_converted",)),
        "Exact counts of all 588,101 users of Marketing A/B Testing by ads seen", "see its page",
        {"full_counts_by_total_ads_bucket_and_group.csv":
         "8198ab263d8a1be1dc822516ee3682dd39e521b0cbb0bbfbed42126b1f55a6ce"},
    ),
    "movielens": Known(
        ("movielens_100k/ml-100k.inter", "movielens_100k/u.data"),
        ("user_id", "item_id", "rating", "timestamp"),
        Roles(time="timestamp", user="user_id", item="item_id", value="rating"),
        "MovieLens 100K, GroupLens", "research use, no redistribution",
        {"ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"},
    ),
    "completejourney": Known(
        ("completejourney/transactions_sample.parquet",),
        ("household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"),
        Roles(time="transaction_timestamp", user="household_id", item="product_id", value="sales_value"),
        "Complete Journey 2.0, 84.51°, R package completejourney", "CC0 (package)",
        {"transactions_sample.parquet": "d50950c80ffaa4ce8fb63e47351abbb76cc215ea6aa18437c0db9016cc3673b9"},
    ),
    "asos": Known(
        ("asos_experiments/asos_digital_experiments_dataset.parquet",
         "asos_experiments/asos_digital_experiments_dataset.csv"),
        ("experiment_id", "variant_id", "metric_id", "time_since_start", "count_c", "count_t", "mean_c", "mean_t",
         "variance_c", "variance_t"),
        Roles(outcomes=("mean_t", "mean_c")),
        "ASOS Digital Experiments Dataset, Liu, Cardoso, Couturier and McCoy, NeurIPS 2021", "CC BY 4.0",
        {"asos_digital_experiments_dataset.parquet":
         "65c1617e09bf5455768ec838e3815417b05a765be51e2e13fa2c964b026ae51f"},
    ),
    "cookie_cats": Known(
        ("cookie_cats/cookie_cats.parquet", "cookie_cats/cookie_cats.csv"),
        ("userid", "version", "sum_gamerounds", "retention_1", "retention_7"),
        Roles("userid", "version", "gate_30", ("retention_1", "retention_7", "sum_gamerounds")),
        "Cookie Cats mobile game A/B test, Tactile Entertainment, through DataCamp", "none stated",
        {"cookie_cats.parquet": "7799c0be2436830908039d97e6d2977afc336bfff1965f28bb106a935495e5ae"},
    ),
    "social_pressure": Known(
        ("social_pressure/social_pressure.parquet",
         "social_pressure/GerberGreenLarimer_APSR_2008_social_pressure.csv"),
        (*_SOCIAL_PRESSURE_COVARIATES, "treatment", "voted", "hh_id", "cluster", "numberofnames", "p2004_mean",
         "g2004_mean"),
        Roles("voter_id", "treatment", "Control", ("voted",), _SOCIAL_PRESSURE_COVARIATES, cluster="hh_id"),
        "Social pressure mailing, Gerber, Green and Larimer, APSR 102(1), 2008", "archive terms",
        {"social_pressure.parquet": "652f563323992bed4390bb18a76c5ed8359dc49b3d9f8c9862797459f6431538"},
    ),
    "mall_customers": Known(
        ("mall_customers/Mall_Customers.csv",),
        ("CustomerID", "Gender", "Age", "Annual Income (k$)", "Spending Score (1-100)"),
        Roles("CustomerID", covariates=("Gender", "Age", "Annual Income (k$)", "Spending Score (1-100)")),
        "Mall Customers, Kaggle user vjchoudhary7", "not stated",
        {"Mall_Customers.csv": "416a4f62a8f33841a16e1db5297f0e05d3b65b05e73632cedae58e739e1e1f77"},
    ),
    "nhefs": Known(
        ("nhefs/NHEFS.csv",),
        ("seqn", "qsmk", "wt82_71", *_NHEFS_COVARIATES),
        Roles("seqn", "qsmk", 0, ("wt82_71",), _NHEFS_COVARIATES),
        "NHANES I Epidemiologic Follow-up Study, as prepared by Hernán and Robins for What If", "CDLA Permissive 1.0",
        {"NHEFS.csv": "2144b9c257213c92106703c7630a13f081408291a80d9afae262db6988ecfe75"},
    ),
    **{name: _lalonde(name, *file) for name, file in _LALONDE.items()},
}  # fmt: skip
OPEN_BANDIT = {
    ("random", "all"): "88383d7d4a208311785c9c544f43635559715a514598bf08bd6c31aa320a4d60",
    ("random", "men"): "3ab1b2c9babbd1613bcf7322e5042f42251035a53eec95fa49e73cb716d5be4f",
    ("random", "women"): "0bff9aa7aae944babef9f6e214657c1da0109fdc55d814d0c4f6cfea50a8ea08",
    ("bts", "all"): "95728bdfeb7270fb285ce1ed5adf56518a1a917185160566c41a1b365a4d4245",
    ("bts", "men"): "c87192a040b611fea865d200760c69cd7339d32b456986fb36f58ffdc70c3df1",
    ("bts", "women"): "bccaebc799c42ed6a9206189d99e16ce37f3b0e8336ce3e03de49386516d3988",
}
