"""Public data sets as typed frames with their roles. Nothing is cleaned here, and no treatment is made up."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from causalrec._validation import list_some, nearest, optional_import
from causalrec.datasets._known import KNOWN, OPEN_BANDIT, Known, Roles
from causalrec.datasets.digests import file_digest
from causalrec.exceptions import DatasetError


@dataclass(frozen=True)
class Dataset:
    """A data set: its frame, its roles, where it comes from, and the sha256 of its file."""

    name: str
    frame: pd.DataFrame = field(repr=False)
    roles: Roles
    source: str
    licence: str
    path: Path
    digest: str

    def require(self, role: str) -> str:
        """The column that plays a role. Raises :class:`DatasetError` where the data has none."""
        column = getattr(self.roles, role)
        if not column:
            raise DatasetError(f"{self.name} has no {role}: the data does not contain one, and none is constructed.")
        return str(column)


def list_datasets() -> dict[str, str]:
    """The names that :func:`load_dataset` knows, with the source of each.

    Examples
    --------
    >>> "hillstrom" in list_datasets()
    True
    """
    return {name: known.source for name, known in KNOWN.items()}


def data_directory() -> Path:
    """Where public data sets are looked for: ``CAUSALREC_DATA_DIR``, else ``../shared/data`` beside the repo."""
    given = os.environ.get("CAUSALREC_DATA_DIR")
    if given:
        return Path(given)
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return beside if beside.is_dir() else Path.cwd().parent / "shared" / "data"


def load_dataset(name: str, path: str | Path | None = None, *, verify: bool = True, **options: str) -> Dataset:
    """Load a public data set by name.

    Parameters
    ----------
    name : str
        See :func:`list_datasets`.
    path : path, optional
        A file, the set's directory, or a data directory; :func:`data_directory` by default, and where the file is not
        there a download, if the publisher has a stable address with a known hash.
    verify : bool
        Compare the sha256 with the known one, where the file's name is that of a known copy. ``False`` takes an edited
        copy as it is. Of files under other names only the columns are checked; downloads are verified always.
    options : str
        ``hillstrom``: ``treatment`` and ``control`` keep two of the three arms. ``open_bandit``: ``policy`` (random,
        bts) and ``campaign`` (all, men, women).

    Raises
    ------
    DatasetError
        For an unknown name or option, a missing file, or a file whose columns or hash are not the known ones; it says
        what differs.
    MissingExtraError
        When a download is needed and ``causalrec[download]`` is not installed.
    """
    if name not in KNOWN:
        raise DatasetError(
            f"data set {name!r} is unknown; expected one of {list_some(KNOWN, 30)}.{nearest(name, KNOWN)}"
        )
    known, prepare = KNOWN[name], _PREPARE.get(name, _as_it_is)
    allowed = [
        *list(inspect.signature(prepare).parameters)[2:],
        *(("policy", "campaign") if name == "open_bandit" else ()),
    ]
    unknown = [o for o in options if o not in allowed]
    if unknown:
        takes = f"it takes {list_some(allowed)}" if allowed else "it takes none"
        raise DatasetError(
            f"data set {name!r} has no option {list_some(unknown)}; {takes}.{nearest(unknown[0], allowed)}"
        )
    if name == "open_bandit":
        known = _bandit_log(known, options.pop("policy", "random"), options.pop("campaign", "all"))
    file = _find(name, known, path)
    digest = file_digest(file)
    expected = known.hashes.get(file.name, digest)
    if verify and digest != expected:
        raise DatasetError(
            f"{file}: sha256 is {digest}; expected {expected}. The file is another version or damaged; pass "
            "verify=False (data.options.verify: false) to take it as it is."
        )
    frame = _read(file, known.columns)
    missing = [c for c in known.columns if c not in frame.columns]
    if missing:
        extra = [c for c in frame.columns if c not in known.columns]
        raise DatasetError(
            f"{file} is not the known {name}: it lacks {list_some(missing, 20)}"
            + (f" and has {list_some(extra, 20)} instead." if extra else ".")
        )
    try:
        prepared, roles = prepare(frame, known.roles, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{file} is not the known {name}: {error}") from error
    return Dataset(name, prepared, roles, known.source, known.licence, file, digest)


def _bandit_log(known: Known, policy: str, campaign: str) -> Known:
    for option, value, choices in (
        ("policy", policy, ("random", "bts")),
        ("campaign", campaign, ("all", "men", "women")),
    ):
        if value not in choices:
            raise DatasetError(
                f"open_bandit: {option} is {value!r}; expected one of {list_some(choices)}.{nearest(value, choices)}"
            )
    name = f"{policy}_{campaign}.parquet"
    return replace(known, files=(f"open_bandit/{name}",), hashes={name: OPEN_BANDIT[policy, campaign]})


def _find(name: str, known: Known, path: str | Path | None) -> Path:
    base = data_directory() if path is None else Path(path)
    if base.is_file():
        return base
    candidates = [base / f for f in known.files] + [base / Path(f).name for f in known.files]
    found = next((c for c in candidates if c.is_file()), None)
    if found is not None:
        return found
    if path is None and known.url is not None:
        return _download(name, known)
    where = f"is not in {base}" if base.is_dir() else f"cannot be had: {base} does not exist"
    raise DatasetError(
        f"data set {name!r} {where}; looked for {list_some(known.files)}. Get it from its publisher "
        f"({known.source}) and set CAUSALREC_DATA_DIR or data.path."
    )


def _download(dataset: str, known: Known) -> Path:
    """The publisher's file from pooch's cache, fetched where it is not there; its hash is checked either way."""
    pooch = optional_import("pooch", extra="download")
    cache = pooch.os_cache("causalrec")
    name = str(known.url).rpartition("/")[2]
    try:
        return Path(
            pooch.retrieve(known.url, f"sha256:{known.hashes[name]}", fname=name, path=cache, progressbar=False)
        )
    except (OSError, ValueError) as error:  # no network, a broken connection, another file than the known one
        raise DatasetError(
            f"data set {dataset!r} is not in {data_directory()} and could not be downloaded from {known.url}: {error}. "
            f"Get it from its publisher ({known.source}) and set CAUSALREC_DATA_DIR or data.path."
        ) from error


def _read(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix == ".data":  # GroupLens writes no header
            return pd.read_csv(file, sep="\t", header=None).rename(columns=dict(enumerate(columns)))
        frame = pd.read_csv(file, sep="\t" if file.suffix == ".inter" else ",")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {error}. Expected Parquet, or CSV in UTF-8.") from error
    return frame.rename(columns={c: c.split(":")[0] for c in frame.columns if file.suffix == ".inter"})


def _as_it_is(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    return frame, roles


def _hillstrom(
    frame: pd.DataFrame, roles: Roles, treatment: str | None = None, control: str | None = None
) -> tuple[pd.DataFrame, Roles]:
    """The file has no id; the row's number stands in, so that exact duplicates stay apart."""
    frame = frame.assign(customer_id=range(len(frame)))
    if treatment is None and control is None:
        return frame, roles
    arms = [a for a in (treatment, control or roles.control) if a is not None]
    known = sorted(frame["segment"].unique())
    unknown = [a for a in arms if a not in known]
    if unknown:
        raise DatasetError(
            f"hillstrom has no arm {unknown[0]!r}; expected one of {list_some(known)}.{nearest(str(unknown[0]), known)}"
        )
    if len(set(arms)) < 2:
        raise DatasetError(
            f"hillstrom: treatment is {treatment!r} and control {control!r}; expected two different arms."
        )
    return frame[frame["segment"].isin(arms)].reset_index(drop=True), replace(roles, control=arms[1])


def _online_retail(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    return frame.assign(InvoiceDate=pd.to_datetime(frame["InvoiceDate"]).astype("datetime64[us]")), roles


def _milliseconds(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    return frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="ms").astype("datetime64[us]")), roles


def _seconds(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    return frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="s").astype("datetime64[us]")), roles


def _open_bandit(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    times = pd.to_datetime(frame["timestamp"], utc=True, format="ISO8601").dt.tz_localize(None).astype("datetime64[us]")
    return frame.assign(timestamp=times), roles


def _numbered(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    return frame.assign(row_id=range(len(frame))), roles


def _social_pressure(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, Roles]:
    """Yes and no in any case as 1 and 0, arms without the space before them. Two households have fractional ids."""
    votes = ["voted", "g2000", "g2002", "g2004", "p2000", "p2002", "p2004"]
    typed: dict[str, pd.Series] = {c: frame[c].str.lower().map({"yes": 1, "no": 0}).astype("int8") for c in votes}
    typed["treatment"] = frame["treatment"].str.strip()
    return frame.assign(voter_id=range(len(frame)), **typed), roles


_PREPARE: dict[str, Callable[..., tuple[pd.DataFrame, Roles]]] = {
    "hillstrom": _hillstrom,
    "online_retail": _online_retail,
    "retailrocket": _milliseconds,
    "movielens": _seconds,
    "open_bandit": _open_bandit,
    "criteo_uplift": _numbered,
    "social_pressure": _social_pressure,
    **{name: _numbered for name in KNOWN if name.startswith("lalonde_")},
}


def online_retail_purchases(dataset: Dataset) -> tuple[pd.DataFrame, dict[str, int]]:
    """Invoice lines as purchase events, and how many lines each rule dropped.

    Dropped, in this order: lines without a customer, cancellations (invoice C…), quantity or price not positive.
    """
    frame = dataset.frame
    dropped: dict[str, int] = {}
    rules: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
        "no customer": lambda f: f["CustomerID"].isna(),
        "cancellation": lambda f: f["InvoiceNo"].astype(str).str.startswith("C"),
        "quantity or price not positive": lambda f: (f["Quantity"] <= 0) | (f["UnitPrice"] <= 0),
    }
    for rule, broken in rules.items():
        bad = broken(frame)
        dropped[rule] = int(bad.sum())
        frame = frame[~bad]
    events = pd.DataFrame({
        "user_id": frame["CustomerID"].astype("int64"), "item_id": frame["StockCode"].astype(str),
        "event_time": frame["InvoiceDate"], "event_type": "purchase", "quantity": frame["Quantity"].astype("int64"),
        "revenue": (frame["Quantity"] * frame["UnitPrice"]).astype("float64"),
    })  # fmt: skip
    return events.reset_index(drop=True), dropped


def retailrocket_events(dataset: Dataset) -> tuple[pd.DataFrame, dict[str, int]]:
    """Views, carts and purchases under the project's names; no line is dropped. Prices are not in the data."""
    frame = dataset.frame
    names = {"view": "view", "addtocart": "cart", "transaction": "purchase"}
    events = pd.DataFrame({
        "user_id": frame["visitorid"].astype("int64"), "item_id": frame["itemid"].astype("int64"),
        "event_time": frame["timestamp"], "event_type": frame["event"].map(names),
    })  # fmt: skip
    dropped = {"unknown event": int(events["event_type"].isna().sum())}
    return events.dropna(subset=["event_type"]).reset_index(drop=True), dropped
