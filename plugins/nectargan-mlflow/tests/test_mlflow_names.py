"""Names of metrics and params: what MLflow takes, without two of ours becoming one."""

import pytest
from nectargan_mlflow.names import metric_name, params


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("components/G_VGG.relu3_3", "components/G_VGG.relu3_3"),
        ("loss/größe", "loss/größe"),
        ("loss/a@b", "loss/a_x40_b"),
        ("loss/a\\b:c", "loss/a_x5c_b_x3a_c"),
        ("loss/..", "loss/_x2e__x2e_"),
        ("loss/.", "loss/_x2e_"),
    ],
)
def test_what_mlflow_refuses_is_escaped(tag, name):
    assert metric_name(tag) == name


def test_long_names_remain_distinct():
    first, second = (metric_name(f"loss/{'x' * 300}{end}") for end in "ab")
    assert len(first) == len(second) == 250
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize(
    "tag", ["loss/a(b)", "loss/..", "loss/" + "y" * 400, "val/a b", "loss/\n", "metrics/%s", "loss/é"]
)
def test_mlflow_takes_every_name(store, tag):
    run_id = store.create_run("0").info.run_id
    store.log_metric(run_id, metric_name(tag), 1.0)
    assert [each.value for each in store.get_metric_history(run_id, metric_name(tag))] == [1.0]


def test_params_are_short():
    loss = {"schedule": {"schedule": "one-cycle", "params": {"x": list(range(1000))}}}
    (value,) = params({"losses": {"G": loss}}).values()
    assert len(value) == 500
    assert value.startswith("one-cycle, params=")
