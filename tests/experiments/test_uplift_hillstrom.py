"""Hillstrom's e-mails: the study on some of the rows, and the numbers of its README on all of them."""

import numpy as np
import pytest

from experiments.uplift_hillstrom.data import MAIL, MARGIN, MENS, NONE, WOMENS, learners, read_customers
from experiments.uplift_hillstrom.mails import leaves
from experiments.uplift_hillstrom.run import MODEL, RULE, main
from experiments.uplift_hillstrom.splits import AS_PUBLISHED, judged_split, over_splits

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def short(tmp_path_factory, data_dir):
    directory = tmp_path_factory.mktemp("hillstrom")
    return main(["--output", str(directory), "--data-dir", str(data_dir)], n_splits=2, rows=4000), directory


@pytest.mark.slow
def test_the_study_runs_on_some_of_the_rows(short):
    found, directory = short
    page = (directory / "index.html").read_text(encoding="utf-8")
    for words in ("Whom to send an e-mail?", "is one draw", "For spend", "seeds:"):
        assert words in page
    assert len(list(directory.glob("*.png"))) == 6
    assert len(found["splits"]) == 2 * (len(learners()) + 3)


@pytest.mark.slow
def test_what_it_says_is_of_the_rows(short):
    found, _ = short
    ranking = found["ranking"]
    y, score, treatment = ranking.data
    top = np.argsort(-ranking.scores[RULE], kind="stable")[: int((ranking.scores[RULE] == 1).sum())]
    gain = y[top][treatment[top] == WOMENS].mean() - y[top][treatment[top] == NONE].mean()
    assert gain > 0
    assert len(score) == 4000
    tree = leaves(found["mails"].tree)
    assert tree["n"].sum() == 4000
    assert set(tree["gets"]) <= {NONE, MENS, WOMENS}


def test_profit_of_one_arm_for_everybody(data_dir):
    # The file's own means: spend 1.4226, 1.0772 and 0.6528 by arm.
    customers = read_customers(data_dir, mens=True)
    spend = {arm: customers.spend[customers.treatment == arm].mean() for arm in (MENS, WOMENS, NONE)}
    assert [round(spend[arm], 4) for arm in (MENS, WOMENS, NONE)] == [1.4226, 1.0772, 0.6528]
    assert MARGIN * (spend[MENS] - spend[NONE]) > MAIL
    assert len(read_customers(data_dir)) == 42_693


def test_the_published_split(data_dir):
    # The scores of a column need no model, so its uplift@30% on the published split is exact: ties are cut by row.
    customers = read_customers(data_dir)
    from sklearn.model_selection import train_test_split

    judge = train_test_split(np.arange(len(customers)), test_size=0.5, random_state=42)[1]
    womens, y = customers.X["womens"].to_numpy()[judge], customers.visit[judge]
    order = np.argsort(womens, kind="mergesort")[::-1][: int(0.3 * len(judge))]
    arm = customers.treatment[judge][order]
    by_hand = y[order][arm == WOMENS].mean() - y[order][arm == NONE].mean()
    from causalrec.evaluation import uplift_at_k

    found = uplift_at_k(y, womens, customers.treatment[judge], k=0.3, control=NONE, convention="sklift")
    assert found.estimate == pytest.approx(by_hand, abs=1e-15)


@pytest.mark.slow
def test_splits_agree_with_each_other(data_dir):
    customers = read_customers(data_dir, rows=4000)
    once, again = (judged_split(customers, 42) for _ in range(2))
    assert {k: v.estimate for k, v in once.items()} == {k: v.estimate for k, v in again.items()}
    assert MODEL in once
    assert AS_PUBLISHED in once
    assert over_splits is not None
