"""Public data sets: known counts, roles, the publishers' own files, downloads, and errors with a remedy."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalrec.datasets import (
    data_directory,
    list_datasets,
    load_dataset,
    online_retail_purchases,
    retailrocket_events,
)
from causalrec.datasets._known import HILLSTROM_CSV, KNOWN
from causalrec.exceptions import DatasetError

MICROSECONDS = np.dtype("datetime64[us]")


# --- the sets themselves --------------------------------------------------------------------------------------------

SHAPES = {
    "hillstrom": (64_000, 13),  # 12 columns and the row's number
    "criteo_uplift": (10_000, 18),
    "online_retail": (541_909, 8),
    "retailrocket": (9_385, 6),
    "open_bandit": (10_000, 90),
    "marketing_ab": (46_188, 7),
    "movielens": (100_000, 4),
    "completejourney": (75_000, 11),
    "marketing_ab_by_day": (14, 4),
    "marketing_ab_by_ads": (6, 4),
    "asos": (24_153, 10),
    "cookie_cats": (90_189, 5),
    "social_pressure": (344_084, 17),
    "mall_customers": (200, 5),
    "nhefs": (1_629, 64),
    "lalonde_nsw": (722, 11),
    "lalonde_nsw_dw": (445, 12),
    "lalonde_cps": (15_992, 12),
    "lalonde_cps2": (2_369, 12),
    "lalonde_cps3": (429, 12),
    "lalonde_psid": (2_490, 12),
    "lalonde_psid2": (253, 12),
    "lalonde_psid3": (128, 12),
    "lalonde_matchit": (614, 11),
}


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_set_loads_with_its_known_hash_shape_and_roles(data_dir: Path, name: str) -> None:
    data = load_dataset(name, data_dir)
    assert data.frame.shape == SHAPES[name]
    assert data.digest == hashlib.sha256(data.path.read_bytes()).hexdigest()
    roles = data.roles
    named = [roles.unit, roles.treatment, roles.time, roles.user, roles.item, roles.event_type, roles.value]
    columns = [*filter(None, [*named, roles.propensity, roles.cluster]), *roles.outcomes, *roles.covariates]
    assert columns
    assert set(columns) <= set(data.frame.columns)
    if roles.time:
        assert data.frame[roles.time].dtype == MICROSECONDS
    if roles.unit:
        assert data.frame[roles.unit].is_unique
    if roles.treatment:
        assert (data.frame[roles.treatment] == roles.control).any()


def test_every_set_is_tested() -> None:
    assert set(list_datasets()) == set(SHAPES)


@pytest.mark.data
def test_published_figures(data_dir: Path) -> None:
    """Counts and rates that the publishers, or the many who used the data, print."""
    hillstrom = load_dataset("hillstrom", data_dir).frame
    assert hillstrom["segment"].value_counts().to_dict() == {
        "Womens E-Mail": 21_387, "Mens E-Mail": 21_307, "No E-Mail": 21_306,
    }  # fmt: skip
    assert hillstrom[["visit", "conversion", "spend"]].mean().tolist() == pytest.approx(
        [0.14678, 0.00903, 1.05091], abs=5e-6
    )
    ratings = load_dataset("movielens", data_dir).frame
    assert (ratings["user_id"].nunique(), ratings["item_id"].nunique()) == (943, 1682)
    assert ratings["rating"].value_counts().sort_index().tolist() == [6110, 11370, 27145, 34174, 21201]
    assert (str(ratings["timestamp"].min().date()), str(ratings["timestamp"].max().date())) == (
        "1997-09-20", "1998-04-22",
    )  # fmt: skip
    retail = load_dataset("online_retail", data_dir).frame
    assert (retail["CustomerID"].nunique(), retail["InvoiceNo"].nunique(), retail["Country"].nunique()) == (
        4372, 25_900, 38,
    )  # fmt: skip
    assert (retail["Quantity"] * retail["UnitPrice"]).sum() == pytest.approx(9_747_747.93, abs=0.005)
    criteo = load_dataset("criteo_uplift", data_dir).frame
    assert criteo["treatment"].mean() == 0.8534
    marketing = load_dataset("marketing_ab", data_dir).frame
    assert marketing.groupby("test group")["converted"].agg(["size", "mean"]).round(5).to_numpy().tolist() == [
        [44_324, 0.02527], [1864, 0.0177],
    ]  # fmt: skip
    for counts in (load_dataset("marketing_ab_by_day", data_dir), load_dataset("marketing_ab_by_ads", data_dir)):
        totals = counts.frame.groupby("test group")[["n_users", "n_converted"]].sum()
        assert totals.to_numpy().tolist() == [[564_577, 14_423], [23_524, 420]]
    assert load_dataset("completejourney", data_dir).frame["household_id"].nunique() == 2377
    cats = load_dataset("cookie_cats", data_dir).frame.groupby("version")["retention_7"].agg(["size", "mean"])
    assert cats.round(4).to_numpy().tolist() == [[44_700, 0.1902], [45_489, 0.182]]
    voters = load_dataset("social_pressure", data_dir)
    turnout = voters.frame.groupby("treatment")["voted"].mean().round(3).to_dict()
    assert turnout == {"Control": 0.297, "Civic Duty": 0.315, "Hawthorne": 0.322, "Self": 0.345, "Neighbors": 0.378}
    assert voters.frame[voters.require("cluster")].nunique() == 180_002
    mall = load_dataset("mall_customers", data_dir).frame
    assert mall.mean(numeric_only=True).round(2).tolist()[1:] == [38.85, 60.56, 50.2]
    assert mall["Gender"].value_counts().to_dict() == {"Female": 112, "Male": 88}


@pytest.mark.data
def test_published_figures_of_observational_sets(data_dir: Path) -> None:
    """Experimental differences of LaLonde 1986 and Dehejia and Wahba 1999, means of their controls, What If's 2.5."""
    earnings = {name: load_dataset(f"lalonde_{name}", data_dir).frame for name in ("nsw", "nsw_dw", "cps", "psid")}
    for name, published in (("nsw", 886.30), ("nsw_dw", 1_794.34)):
        means = earnings[name].groupby("treat")["re78"].mean()
        assert means[1] - means[0] == pytest.approx(published, abs=0.005)
    assert earnings["cps"]["re78"].mean() == pytest.approx(14_846.66, abs=0.005)
    assert earnings["psid"]["re78"].mean() == pytest.approx(21_553.92, abs=0.005)
    weight = load_dataset("nhefs", data_dir).frame
    assert weight["wt82_71"].isna().sum() == 63
    assert weight.groupby("qsmk")["wt82_71"].mean().tolist() == pytest.approx([1.984, 4.525], abs=5e-4)


@pytest.mark.data
@pytest.mark.parametrize(
    "policy,campaign,items,rate",
    [
        ("random", "all", 80, 0.0038), ("random", "men", 34, 0.0046), ("random", "women", 46, 0.0046),
        ("bts", "all", 80, 0.0042), ("bts", "men", 34, 0.0069), ("bts", "women", 46, 0.0046),
    ],
)  # fmt: skip
def test_open_bandit_logs(data_dir: Path, policy: str, campaign: str, items: int, rate: float) -> None:
    data = load_dataset("open_bandit", data_dir, policy=policy, campaign=campaign)
    assert data.frame["click"].mean() == pytest.approx(rate, abs=1e-12)
    assert data.frame["item_id"].nunique() <= items
    if policy == "random":
        np.testing.assert_allclose(data.frame["propensity_score"], 1 / items)


@pytest.mark.data
def test_online_retail_purchases(data_dir: Path) -> None:
    """397,884 lines remain: the number that analyses of this set start from."""
    data = load_dataset("online_retail", data_dir)
    events, dropped = online_retail_purchases(data)
    assert dropped == {"no customer": 135_080, "cancellation": 8_905, "quantity or price not positive": 40}
    assert len(events) == 397_884 == 541_909 - sum(dropped.values())
    assert events["revenue"].sum() == pytest.approx(8_911_407.904, abs=0.005)
    assert set(events["event_type"]) == {"purchase"}
    assert events["user_id"].nunique() == 4338
    assert len(data.frame) == 541_909  # the data set itself is as it was


@pytest.mark.data
def test_retailrocket_events(data_dir: Path) -> None:
    data = load_dataset("retailrocket", data_dir)
    events, dropped = retailrocket_events(data)
    assert events["event_type"].value_counts().to_dict() == {"view": 9076, "cart": 263, "purchase": 46}
    assert dropped == {"unknown event": 0}
    # The source wrote the same instants as text beside the milliseconds.
    pd.testing.assert_series_equal(
        events["event_time"],
        pd.to_datetime(data.frame["datetime"]).dt.tz_localize(None).astype(MICROSECONDS),
        check_names=False,
    )


def test_an_event_that_is_not_known_is_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n0,1,view,2,\n1000,1,wish,2,\n2000,1,transaction,2,5\n"
    )
    events, dropped = retailrocket_events(load_dataset("retailrocket", tmp_path))
    assert dropped == {"unknown event": 1}
    assert events["event_type"].tolist() == ["view", "purchase"]
    assert events["event_time"].tolist() == [pd.Timestamp(0), pd.Timestamp("1970-01-01 00:00:02")]


# --- where the file may lie, and publishers' own formats ------------------------------------------------------------

HILLSTROM = (
    "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit,conversion,spend\n"
    "10,2) $100 - $200,142.44,1,0,Surburban,0,Phone,Womens E-Mail,0,0,0\n"
    "6,3) $200 - $350,329.08,1,1,Rural,1,Web,No E-Mail,1,0,0\n"
    "7,2) $100 - $200,180.65,0,1,Surburban,1,Web,Mens E-Mail,1,1,9.5\n"
)
CRITEO = ",".join(f"f{i}" for i in range(12)) + ",treatment,conversion,visit,exposure\n" + ",".join("1" * 16) + "\n"
PUBLISHED = {
    "hillstrom": (HILLSTROM_CSV, HILLSTROM, 3),
    "criteo_uplift": ("criteo-uplift-v2.1.csv", CRITEO, 1),
    "marketing_ab": (
        "marketing_AB.csv",
        ",user id,test group,converted,total ads,most ads day,most ads hour\n0,1069124,ad,False,130,Monday,20\n",
        1,
    ),
    "movielens": ("u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n", 2),
    "retailrocket": (
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n",
        1,
    ),
    "online_retail": (
        "online_retail.csv",
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom\n",
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", ["file", "its directory", "data directory"])
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_publishers_file_loads_too(tmp_path: Path, name: str, place: str) -> None:
    filename, text, rows = PUBLISHED[name]
    known = next(f for f in KNOWN[name].files if f.endswith(filename))
    file = tmp_path / (known if place == "data directory" else filename)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    data = load_dataset(name, file if place == "file" else tmp_path, verify=False)
    assert (len(data.frame), data.path) == (rows, file)


def test_the_publishers_values_are_read_right(tmp_path: Path) -> None:
    for filename, text, _ in PUBLISHED.values():
        (tmp_path / filename).write_text(text)
    ratings = load_dataset("movielens", tmp_path).frame
    assert ratings.iloc[0].tolist() == [196, 242, 3, pd.Timestamp("1997-12-04 15:55:49")]
    assert load_dataset("online_retail", tmp_path).frame["InvoiceDate"][0] == pd.Timestamp("2010-12-01 08:26")
    assert load_dataset("retailrocket", tmp_path).frame["timestamp"][0] == pd.Timestamp("2015-06-02 05:02:12.117")


def test_a_gzipped_file_loads(tmp_path: Path) -> None:
    pd.read_csv(pd.io.common.StringIO(CRITEO)).to_csv(tmp_path / "criteo-uplift-v2.1.csv.gz", index=False)
    assert load_dataset("criteo_uplift", tmp_path).frame.shape == (1, 17)


def test_data_directory_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAUSALREC_DATA_DIR", str(tmp_path))
    assert data_directory() == tmp_path
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n")
    assert load_dataset("movielens").path == tmp_path / "u.data"


# --- options and errors ---------------------------------------------------------------------------------------------


@pytest.fixture
def hillstrom(tmp_path: Path) -> Path:
    file = tmp_path / "h.csv"
    file.write_text(HILLSTROM)
    return file


def test_hillstrom_arms_and_roles(hillstrom: Path) -> None:
    every = load_dataset("hillstrom", hillstrom)
    assert every.frame["customer_id"].tolist() == [0, 1, 2]
    two = load_dataset("hillstrom", hillstrom, treatment="Mens E-Mail")
    assert (two.frame["customer_id"].tolist(), two.roles.control) == ([1, 2], "No E-Mail")
    mails = load_dataset("hillstrom", hillstrom, treatment="Mens E-Mail", control="Womens E-Mail")
    assert (mails.frame["customer_id"].tolist(), mails.roles.control) == ([0, 2], "Womens E-Mail")
    assert every.roles.control == "No E-Mail"


@pytest.mark.parametrize(
    "options,message",
    [
        ({"treatment": "Men E-Mail"}, "no arm 'Men E-Mail'.*Did you mean 'Mens E-Mail'"),
        ({"treatment": "No E-Mail"}, "expected two different arms"),
        ({"control": "Mens E-Mail"}, "expected two different arms"),
        ({"treatement": "Mens E-Mail"}, "no option 'treatement'; it takes 'treatment', 'control'.*Did you mean"),
    ],
)
def test_hillstrom_refuses(hillstrom: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset("hillstrom", hillstrom, **options)


@pytest.mark.parametrize(
    "name,options,message",
    [
        ("hilstrom", {}, "'hilstrom' is unknown; expected one of.*Did you mean 'hillstrom'"),
        ("movielens", {"treatment": "x"}, "no option 'treatment'; it takes none"),
        ("marketing_ab", {"policy": "x"}, "no option 'policy'; it takes none"),
        ("open_bandit", {"policy": "randm"}, "policy is 'randm'.*Did you mean 'random'"),
        ("open_bandit", {"campaign": "woman"}, "campaign is 'woman'.*Did you mean 'women'"),
        ("retailrocket", {}, "is not in .*looked for.*Get it from its publisher.*set CAUSALREC_DATA_DIR or data.path"),
    ],
)
def test_what_cannot_be_loaded_is_said_with_the_remedy(tmp_path: Path, name, options, message) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset(name, tmp_path, **options)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere.csv does not exist; looked for"):
        load_dataset("movielens", tmp_path / "nowhere.csv")


def test_another_file_is_told_by_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("recency,history\n1,2\n")
    with pytest.raises(DatasetError, match=r"not the known retailrocket: it lacks 'timestamp'.*has 'recency'"):
        load_dataset("retailrocket", file)


@pytest.mark.parametrize(
    "filename,content",
    [("x.parquet", b"no parquet"), ("x.csv", b"\xff\xfe\x00bad"), ("x.csv", b""), ("u.data", b"")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, filename: str, content: bytes) -> None:
    (tmp_path / filename).write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_dataset("retailrocket", tmp_path / filename)


def test_values_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\tyesterday\n")
    with pytest.raises(DatasetError, match="not the known movielens"):
        load_dataset("movielens", tmp_path)


def test_a_known_copy_is_told_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / HILLSTROM_CSV
    copy.write_text(HILLSTROM)
    with pytest.raises(DatasetError, match=r"sha256 is .*; expected 27bab8c5.*another version.*verify=False"):
        load_dataset("hillstrom", tmp_path)
    digest = hashlib.sha256(HILLSTROM.encode()).hexdigest()
    assert load_dataset("hillstrom", tmp_path, verify=False).digest == digest
    copy.rename(tmp_path / "my_own.csv")  # a file under another name does not claim to be the known one
    assert load_dataset("hillstrom", tmp_path / "my_own.csv").digest == digest


def test_a_role_that_the_data_lacks_is_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n")
    data = load_dataset("movielens", tmp_path)
    assert data.require("user") == "user_id"
    with pytest.raises(DatasetError, match=r"movielens has no treatment.*none is constructed"):
        data.require("treatment")


# --- download -------------------------------------------------------------------------------------------------------


class Publisher(BaseHTTPRequestHandler):
    """Serves the file, half of it, or nothing, by path."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        body = HILLSTROM.encode()
        if self.path == "/gone.csv":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/broken.csv" else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, list[str], Path]]:
    """The address of a local server, the paths asked of it, and the cache directory."""
    pytest.importorskip("pooch")
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Publisher,), {"requests": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CAUSALREC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}", asked, tmp_path / "cache"
    server.shutdown()
    thread.join()
    server.server_close()


def serve(monkeypatch: pytest.MonkeyPatch, url: str, content: str = HILLSTROM) -> None:
    digest = hashlib.sha256(content.encode()).hexdigest()
    known = replace(KNOWN["hillstrom"], url=url, hashes={url.rpartition("/")[2]: digest})
    monkeypatch.setitem(KNOWN, "hillstrom", known)


def test_a_missing_file_is_downloaded_once(publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    url, asked, cache = publisher
    serve(monkeypatch, f"{url}/file.csv")
    first, second = load_dataset("hillstrom"), load_dataset("hillstrom")
    assert len(first.frame) == 3
    assert first.path == second.path
    assert cache in first.path.parents
    assert asked == ["/file.csv"]


@pytest.mark.parametrize(
    "path,content", [("/file.csv", "another file"), ("/broken.csv", HILLSTROM), ("/gone.csv", HILLSTROM)]
)
def test_a_download_that_fails_leaves_no_file_behind(publisher, monkeypatch: pytest.MonkeyPatch, path, content) -> None:
    url, _, cache = publisher
    serve(monkeypatch, f"{url}{path}", content)
    with pytest.raises(DatasetError, match=r"could not be downloaded from .*set CAUSALREC_DATA_DIR or data.path"):
        load_dataset("hillstrom")
    assert not [p for p in cache.rglob("*") if p.is_file()]
    serve(monkeypatch, f"{url}/file.csv")
    assert len(load_dataset("hillstrom").frame) == 3


def test_a_damaged_copy_in_the_cache_is_fetched_again(publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    url, asked, _ = publisher
    serve(monkeypatch, f"{url}/file.csv")
    load_dataset("hillstrom").path.write_text("damaged")
    assert len(load_dataset("hillstrom").frame) == 3
    assert asked == ["/file.csv", "/file.csv"]


def test_without_a_network_the_remedy_is_named(publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, "http://127.0.0.1:9/file.csv")
    with pytest.raises(DatasetError, match=r"could not be downloaded from .*Get it from its publisher"):
        load_dataset("hillstrom")


def test_a_given_path_is_never_replaced_by_a_download(
    publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, asked, _ = publisher
    serve(monkeypatch, f"{url}/file.csv")
    with pytest.raises(DatasetError, match="looked for"):
        load_dataset("hillstrom", tmp_path)
    assert not asked
