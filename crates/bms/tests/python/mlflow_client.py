"""The unmodified MLflow client against a server: python mlflow_client.py URL BUNDLE

BUNDLE is a signed bundle's folder whose manifest names the model `digits`; it has to become a version that can be
served. Every check is an assertion; the last line of a good run is `ok`.
"""

import math
import os
import pathlib
import sys
import tempfile
import time
import urllib.error
import urllib.request

URL, BUNDLE = sys.argv[1], sys.argv[2]
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "2"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

mlflow.set_tracking_uri(URL)
client = MlflowClient(URL)


def refused(error_code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except MlflowException as error:
        assert error.error_code == error_code, (error.error_code, str(error))
        return str(error)
    raise AssertionError(f"{call} was not refused")


def experiments():
    made = client.create_experiment("vision", tags={"team": "a"})
    assert client.get_experiment(made).name == "vision"
    assert client.get_experiment_by_name("vision").tags == {"team": "a"}
    assert client.get_experiment_by_name("nobody") is None
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, "vision")
    refused("INVALID_PARAMETER_VALUE", client.create_experiment, "elsewhere", artifact_location="s3://bucket/x")
    client.set_experiment_tag(made, "stage", "trial")
    found = client.search_experiments(filter_string="name ILIKE 'VIS%' AND tags.stage = 'trial'")
    assert [e.experiment_id for e in found] == [made]
    other = client.create_experiment("scratch")
    client.rename_experiment(other, "scratch-2")
    client.delete_experiment(other)
    assert client.get_experiment(other).lifecycle_stage == "deleted"
    assert other not in [e.experiment_id for e in client.search_experiments()]
    assert other in [e.experiment_id for e in client.search_experiments(view_type=ViewType.DELETED_ONLY)]
    client.restore_experiment(other)
    assert client.get_experiment(other).lifecycle_stage == "active"
    return made


def a_run(experiment, folder):
    mlflow.set_experiment("vision")
    with mlflow.start_run(run_name="first", tags={"kind": "demo"}, description="what it is") as run:
        mlflow.log_params({"learning rate": 0.1, "layers": 3})
        for step in range(50):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_metrics({"accuracy": 0.9, "odd/name.x": 2.0}, step=49)
        for value in (math.nan, math.inf, -math.inf):
            mlflow.log_metric("strange", value, step=0)
        mlflow.set_tag("note", "it's “quoted” 数字")
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": [1, 2]}, "notes/deep/a.json")
        (folder / "plain.bin").write_bytes(bytes(range(256)))
        mlflow.log_artifact(folder / "plain.bin")
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("loss", 0.5)
    read = client.get_run(run.info.run_id)
    assert read.info.status == "FINISHED" and read.info.end_time >= read.info.start_time
    assert read.data.params == {"learning rate": "0.1", "layers": "3"}, read.data.params
    assert read.data.metrics["loss"] == 1.0 / 50 and read.data.metrics["odd/name.x"] == 2.0
    assert read.data.tags["note"] == "it's “quoted” 数字" and read.info.run_name == "first"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [m.step for m in history] == list(range(50)), history
    strange = sorted(str(m.value) for m in client.get_metric_history(run.info.run_id, "strange"))
    assert strange == ["-inf", "inf", "nan"], strange
    child = client.get_run(inner.info.run_id)
    assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
    refused("INVALID_PARAMETER_VALUE", client.log_param, run.info.run_id, "layers", 4)
    client.log_param(run.info.run_id, "layers", 3)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "0" * 32)
    # The same batch again is the same values once.
    now = int(time.time() * 1000)
    batch = [Metric("again", 1.0, now, 1), Metric("again", 2.0, now, 2)]
    for _ in range(2):
        client.log_batch(run.info.run_id, batch, [Param("p", "q")], [RunTag("t", "u")])
    assert len(client.get_metric_history(run.info.run_id, "again")) == 2
    client.delete_tag(run.info.run_id, "t")
    assert "t" not in client.get_run(run.info.run_id).data.tags
    many = [Metric(f"m{n}", float(n), now, n) for n in range(1000)]
    client.log_batch(run.info.run_id, many, [], [])
    client.log_batch(inner.info.run_id, [Metric("long", float(n), now + n, n) for n in range(1000)], [], [])
    assert len(client.get_metric_history(inner.info.run_id, "long")) == 1000
    return run, inner


def searches(experiment, run, inner):
    def found(text, **more):
        return [r.info.run_id for r in client.search_runs([experiment], text, **more)]

    both, first = {run.info.run_id, inner.info.run_id}, run.info.run_id
    assert set(found("")) == both
    assert found("metrics.loss < 0.1") == [first]
    assert found("metrics.`odd/name.x` >= 2") == [first]
    assert found("params.`learning rate` = '0.1' and tags.kind LIKE 'de%'") == [first]
    assert found("attributes.status = 'FINISHED' AND run_name ILIKE 'INN%'") == [inner.info.run_id]
    assert found(f"tags.mlflow.parentRunId = '{first}'") == [inner.info.run_id]
    assert found(f"attributes.run_id IN ('{first}')") == [first]
    refused("INVALID_PARAMETER_VALUE", client.search_runs, [experiment], "tags.kind = 'x'; DROP TABLE runs")
    refused("INVALID_PARAMETER_VALUE", client.search_runs, [experiment], "metrics.loss = 'low'")
    assert found("", order_by=["metrics.loss ASC"]) == [first, inner.info.run_id]
    assert found("", order_by=["metrics.loss DESC"]) == [inner.info.run_id, first]
    page = client.search_runs([experiment], max_results=1)
    rest = client.search_runs([experiment], max_results=1, page_token=page.token)
    assert {page[0].info.run_id, rest[0].info.run_id} == both and rest.token is None
    client.delete_run(inner.info.run_id)
    assert found("") == [first]
    assert found("", run_view_type=ViewType.DELETED_ONLY) == [inner.info.run_id]
    refused("INVALID_PARAMETER_VALUE", client.log_metric, inner.info.run_id, "x", 1.0)
    client.restore_run(inner.info.run_id)
    assert set(found("")) == both


def artifacts(run, folder):
    listed = {a.path: (a.is_dir, a.file_size) for a in client.list_artifacts(run.info.run_id)}
    assert listed["plain.bin"] == (False, 256) and listed["notes"][0], listed
    assert {a.path for a in client.list_artifacts(run.info.run_id, "notes")} == {"notes/hello.txt", "notes/deep"}
    assert client.list_artifacts(run.info.run_id, "plain.bin") == []
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/hello.txt") == "hello"
    whole = pathlib.Path(client.download_artifacts(run.info.run_id, "", str(folder / "whole")))
    assert (whole / "plain.bin").read_bytes() == bytes(range(256))
    assert (whole / "notes/deep/a.json").exists()


def memory(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def a_large_artifact(run, folder):
    """400 MB up and down; what the server holds of it at a time is bounded: a few packs of the store."""
    size = 400_000_000
    large, pid = folder / "large.bin", os.environ.get("BMS_SERVER_PID")
    with large.open("wb") as out:
        block = os.urandom(1_000_000)
        for n in range(size // len(block)):
            out.write(n.to_bytes(4, "little") + block[4:])
    before = memory(pid) if pid else 0
    begin = time.monotonic()
    client.log_artifact(run.info.run_id, str(large), "big")
    up = time.monotonic() - begin
    (folder / "back").mkdir()
    begin = time.monotonic()
    back = client.download_artifacts(run.info.run_id, "big/large.bin", str(folder / "back"))
    down = time.monotonic() - begin
    assert pathlib.Path(back).read_bytes() == large.read_bytes()
    grown = memory(pid) - before if pid else 0
    print(f"400 MB up in {up:.1f} s, down in {down:.1f} s; the server's peak memory grew by {grown >> 20} MiB")
    assert grown < size / 2, grown


def a_model_of_files(run, folder):
    model = folder / "model"
    model.mkdir()
    (model / "MLmodel").write_text("artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.sklearn\n")
    (model / "weights.txt").write_text("1 2 3")
    client.log_artifacts(run.info.run_id, str(model), "model")
    made = mlflow.register_model(f"runs:/{run.info.run_id}/model", "plain", tags={"made": "by test"})
    assert (made.name, int(made.version), made.status, made.run_id) == ("plain", 1, "READY", run.info.run_id)
    assert "cannot serve" in made.status_message, made
    again = mlflow.register_model(f"runs:/{run.info.run_id}/model", "plain")
    assert int(again.version) == 2
    client.set_registered_model_alias("plain", "champion", 1)
    client.set_model_version_tag("plain", "1", "checked", "yes")
    client.update_model_version("plain", "1", description="the first")
    client.update_registered_model("plain", description="files")
    client.set_registered_model_tag("plain", "team", "a")
    by_alias = client.get_model_version_by_alias("plain", "champion")
    assert int(by_alias.version) == 1 and by_alias.tags["checked"] == "yes" and by_alias.aliases == ["champion"]
    assert by_alias.description == "the first"
    registered = client.get_registered_model("plain")
    assert registered.aliases == {"champion": "1"} or registered.aliases == {"champion": 1}, registered.aliases
    assert registered.description == "files" and registered.tags == {"team": "a"}
    down = pathlib.Path(mlflow.artifacts.download_artifacts("models:/plain@champion", dst_path=str(folder / "down")))
    assert (down / "weights.txt").read_text() == "1 2 3"
    # A version is what it was, whatever happens to the run.
    (model / "weights.txt").write_text("changed")
    client.log_artifacts(run.info.run_id, str(model), "model")
    down = pathlib.Path(mlflow.artifacts.download_artifacts("models:/plain/1", dst_path=str(folder / "down1")))
    assert (down / "weights.txt").read_text() == "1 2 3"
    found = client.search_model_versions(f"name = 'plain' and run_id = '{run.info.run_id}'")
    assert [int(v.version) for v in found] == [2, 1], found
    assert [m.name for m in client.search_registered_models("name LIKE 'pl%' and tags.team = 'a'")] == ["plain"]
    client.transition_model_version_stage("plain", "2", "Staging")
    assert client.get_model_version("plain", "2").current_stage == "Staging"
    client.delete_registered_model_alias("plain", "champion")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version_by_alias, "plain", "champion")
    client.delete_model_version("plain", "2")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, "plain", "2")
    client.delete_model_version_tag("plain", "1", "checked")
    assert "checked" not in client.get_model_version("plain", "1").tags
    refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, "plain")
    refused("INVALID_PARAMETER_VALUE", client.create_registered_model, "No Such Name")
    refused("INVALID_PARAMETER_VALUE", client.create_model_version, "plain", "s3://bucket/model")
    refused("RESOURCE_DOES_NOT_EXIST", client.create_model_version, "plain", f"runs:/{run.info.run_id}/nothing")


def a_malicious_model(run, folder):
    bad = folder / "bad"
    bad.mkdir()
    (bad / "MLmodel").write_text("artifact_path: bad\n")
    # A pickle that would run a command; it is never opened here.
    (bad / "model.pkl").write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    client.log_artifacts(run.info.run_id, str(bad), "bad")
    client.create_registered_model("bad")
    said = refused("PERMISSION_DENIED", client.create_model_version, "bad", f"runs:/{run.info.run_id}/bad")
    assert "system" in said, said
    assert client.search_model_versions("name = 'bad'") == []
    with urllib.request.urlopen(f"{URL}/api/v1/quarantine") as answer:
        assert b"malicious_content" in answer.read()


def a_servable_model(run):
    client.log_artifacts(run.info.run_id, BUNDLE, "bundle")
    client.create_registered_model("digits")
    made = client.create_model_version("digits", f"{run.info.artifact_uri}/bundle", run.info.run_id)
    assert "can be deployed" in made.status_message, made
    client.set_registered_model_alias("digits", "production", made.version)
    request = urllib.request.Request(
        f"{URL}/api/v1/deployments/digits", b'{"alias": "production"}', {"content-type": "application/json"}, method="PUT"
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    # An alias that a deployment follows does not move to what cannot be served.
    client.create_model_version("digits", f"runs:/{run.info.run_id}/notes", run.info.run_id)
    refused("INVALID_STATE", client.set_registered_model_alias, "digits", "production", "2")


def a_logged_model(experiment):
    """The way of version 3: the model is a thing of its own, registered later."""
    with mlflow.start_run(experiment_id=experiment) as run:
        model = client.create_logged_model(experiment, name="net", source_run_id=run.info.run_id, params={"a": "1"}, tags={"k": "v"}, model_type="test")
        with tempfile.TemporaryDirectory() as local:
            (pathlib.Path(local) / "MLmodel").write_text("artifact_path: net\n")
            client.log_model_artifacts(model.model_id, local)
        client.finalize_logged_model(model.model_id, "READY")
    read = client.get_logged_model(model.model_id)
    assert read.status == "READY" and read.params == {"a": "1"} and read.tags == {"k": "v"}, read
    assert [m.model_id for m in client.search_logged_models([experiment], "name = 'net'")] == [model.model_id]
    made = mlflow.register_model(f"models:/{model.model_id}", "net")
    assert int(made.version) == 1 and made.run_id == run.info.run_id, made
    client.delete_logged_model(model.model_id)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_logged_model, model.model_id)


def unknown_endpoints():
    try:
        urllib.request.urlopen(f"{URL}/api/2.0/mlflow/nothing")
        raise AssertionError("there is no such endpoint")
    except urllib.error.HTTPError as error:
        assert error.code == 404 and b"ENDPOINT_NOT_FOUND" in error.read()


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    experiment = experiments()
    run, inner = a_run(experiment, folder)
    searches(experiment, run, inner)
    artifacts(run, folder)
    a_large_artifact(run, folder)
    a_model_of_files(run, folder)
    a_malicious_model(run, folder)
    a_servable_model(run)
    a_logged_model(experiment)
    unknown_endpoints()
print("ok")
