"""The unmodified Triton client against a server: python triton_client.py URL MODE

The server has the models `identity-DATATYPE` for every datatype, each of which gives back its input `x` of any length as
`y`, `pair` (`x` FP32 and `k` INT64 of the shape [n, 2], given back as `y` and `l`), and, when MODE is `up`, an undeployed
`spare`. When MODE is `one` there is only `identity-fp32`. Every check is an assertion; the last line of a good run is `ok`.
"""

import queue
import sys
import threading
import time

import ml_dtypes
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

URL, MODE = sys.argv[1].removeprefix("http://"), sys.argv[2]
MB = 1 << 20

VALUES = {
    "BOOL": np.array([True, False, True]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([0.5, -65504, 6e-8], np.float16),
    "FP32": np.array([0.1, -3.4e38, 1e-40], np.float32),
    "FP64": np.array([0.1, -1.7e308], np.float64),
    "BYTES": np.array(["zürich".encode(), b"", b"x" * 70000], np.object_),
    "BF16": np.array([1.5, -3.0, 0.0], ml_dtypes.bfloat16),
}


def refused(says, call, *args, status=None, **kwargs):
    try:
        call(*args, **kwargs)
    except InferenceServerException as error:
        assert says in error.message(), (says, error)
        assert status is None or error.status() == status, (status, error.status())
        return error
    raise AssertionError(f"{call} was not refused")


def tensor(api, name, datatype, values, **binary):
    given = api.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, **binary)
    return given


def health(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("identity-fp32") and client.is_model_ready("identity-fp32", "1")
    refused("no model `absent`", client.get_model_metadata, "absent")


def over_http():
    client = http.InferenceServerClient(URL, concurrency=4)
    health(client)
    assert not client.is_model_ready("absent")
    about = client.get_server_metadata()
    assert about["name"] == "bms" and "binary_tensor_data" in about["extensions"], about
    assert ("model_repository" in about["extensions"]) == (MODE == "up")
    model = client.get_model_metadata("identity-fp32", "1")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1]}], model
    config = client.get_model_config("identity-fp32")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}], config
    assert config["max_batch_size"] == 0
    for datatype in [d for d in VALUES if MODE == "up" or d == "FP32"]:
        for sent in [True, False]:
            for wanted in [True, False]:
                if datatype in ("FP16", "BF16") and not (sent and wanted):
                    continue  # The client itself refuses these in JSON.
                given = tensor(http, "x", datatype, VALUES[datatype], binary_data=sent)
                asked = [http.InferRequestedOutput("y", binary_data=wanted)]
                result = client.infer(f"identity-{datatype.lower()}", [given], outputs=asked, request_id="7")
                got = result.as_numpy("y")
                expected = VALUES[datatype]
                if datatype == "BYTES" and not wanted:
                    expected = np.array([v.decode() for v in expected], np.object_)
                assert np.array_equal(got, expected), (datatype, sent, wanted, got)
                response = result.get_response()
                assert response["id"] == "7" and response["model_version"] == "1"
                assert response["outputs"][0]["datatype"] == datatype
    ones = tensor(http, "x", "FP32", np.array([1.0, 10.0, 5.0, 4.0], np.float32))
    all_binary = client.infer("identity-fp32", [ones])
    assert all_binary.as_numpy("y").tolist() == [1, 10, 5, 4]
    best = client.infer("identity-fp32", [ones], outputs=[http.InferRequestedOutput("y", class_count=2)])
    assert best.as_numpy("y").tolist() == [b"10.000000:1", b"5.000000:2"], best.as_numpy("y")
    waiting = [client.async_infer("identity-fp32", [ones], request_id=str(n)) for n in range(16)]
    assert [w.get_result().get_response()["id"] for w in waiting] == [str(n) for n in range(16)]
    for priority in [1, 9]:
        client.infer("identity-fp32", [ones], priority=priority, timeout=20_000_000)
    refused("no priority 10", client.infer, "identity-fp32", [ones], priority=10, status="400")
    refused("sequence_id", client.infer, "identity-fp32", [ones], sequence_id=3, sequence_start=True, status="501")
    refused("did not answer within", client.infer, "identity-fp32", [ones], timeout=1, status="504")
    wrong_inputs(http, client, "400")
    refused("encoded", client.infer, "identity-fp32", [ones], request_compression_algorithm="gzip", status="501")
    client.close()
    large = np.arange(18 * MB, dtype=np.float32)
    client = http.InferenceServerClient(URL, network_timeout=60)
    result = client.infer("identity-fp32", [tensor(http, "x", "FP32", large)])
    assert np.array_equal(result.as_numpy("y"), large)
    too_large = tensor(http, "x", "FP32", np.zeros(45 * MB, np.float32))
    refused("over the limit", client.infer, "identity-fp32", [too_large], status="413")
    for call in [client.get_system_shared_memory_status, client.get_trace_settings, client.get_log_settings]:
        refused("does not do", call, status="501")
    counted(client.get_inference_statistics("identity-fp32")["model_stats"][0])
    names = {entry["name"] for entry in client.get_inference_statistics()["model_stats"]}
    assert len(names) == (len(VALUES) + 1 if MODE == "up" else 1), names
    return client


def wrong_inputs(api, client, status):
    def ask(name, datatype, values, model="identity-fp32"):
        return [model, [tensor(api, name, datatype, values)]]

    refused("has no input `z`", client.infer, *ask("z", "FP32", VALUES["FP32"]), status=status)
    refused("is given as i64[2]", client.infer, *ask("x", "INT64", VALUES["INT64"]), status=status)
    refused("is given as f32[3, 1]", client.infer, *ask("x", "FP32", VALUES["FP32"].reshape(3, 1)), status=status)
    refused("not a finite number", client.infer, *ask("x", "FP32", np.array([np.nan], np.float32)), status=status)
    refused("no output `q`", client.infer, *ask("x", "FP32", VALUES["FP32"]),
            outputs=[api.InferRequestedOutput("q")], status=status)
    refused("no model `absent`", client.infer, *ask("x", "FP32", VALUES["FP32"], model="absent"))
    refused("version 9", client.infer, *ask("x", "FP32", VALUES["FP32"]), model_version="9")


def counted(entry):
    assert int(entry["inference_count"]) > 0 and int(entry["execution_count"]) > 0, entry
    stats = entry["inference_stats"]
    assert stats["success"]["count"] == stats["compute_infer"]["count"], stats
    assert int(stats["success"]["ns"]) >= int(stats["compute_infer"]["ns"]) > 0
    assert entry["batch_stats"], entry


def over_grpc():
    client = grpc.InferenceServerClient(URL)
    health(client)
    refused("no model `absent`", client.is_model_ready, "absent", status="StatusCode.NOT_FOUND")
    about = client.get_server_metadata(as_json=True)
    assert about["name"] == "bms" and "statistics" in about["extensions"]
    model = client.get_model_metadata("identity-fp32", as_json=True)
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1"]}], model
    config = client.get_model_config("identity-fp32", as_json=True)["config"]
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1"]}], config
    for datatype in [d for d in VALUES if MODE == "up" or d == "FP32"]:
        given = tensor(grpc, "x", datatype, VALUES[datatype])
        result = client.infer(f"identity-{datatype.lower()}", [given], request_id="7")
        assert np.array_equal(result.as_numpy("y"), VALUES[datatype]), datatype
        response = result.get_response()
        assert (response.id, response.model_version, response.outputs[0].datatype) == ("7", "1", datatype)
        if datatype not in ("FP16", "BF16"):
            typed(client, datatype)
    ones = tensor(grpc, "x", "FP32", np.array([1.0, 10.0, 5.0, 4.0], np.float32))
    best = client.infer("identity-fp32", [ones], outputs=[grpc.InferRequestedOutput("y", class_count=1)])
    assert best.as_numpy("y").tolist() == [b"10.000000:1"]
    answers = queue.Queue()
    for n in range(16):
        client.async_infer("identity-fp32", [ones], lambda result, error: answers.put((result, error)), request_id=str(n))
    got = [answers.get(timeout=30) for _ in range(16)]
    assert all(error is None for _, error in got), got
    assert sorted(int(result.get_response().id) for result, _ in got) == list(range(16))
    client.infer("identity-fp32", [ones], priority=1, timeout=20_000_000)
    refused("no priority 10", client.infer, "identity-fp32", [ones], priority=10)
    refused("sequence_id", client.infer, "identity-fp32", [ones], sequence_id=3, status="StatusCode.UNIMPLEMENTED")
    refused("did not answer within", client.infer, "identity-fp32", [ones], timeout=1,
            status="StatusCode.DEADLINE_EXCEEDED")
    wrong_inputs(grpc, client, "StatusCode.INVALID_ARGUMENT")
    large = np.arange(18 * MB, dtype=np.float32)
    result = client.infer("identity-fp32", [tensor(grpc, "x", "FP32", large)])
    assert np.array_equal(result.as_numpy("y"), large)
    # 72 MB do not go there and back in a millisecond.
    refused("", client.infer, "identity-fp32", [tensor(grpc, "x", "FP32", large)], client_timeout=0.001,
            status="StatusCode.DEADLINE_EXCEEDED")
    too_large = tensor(grpc, "x", "FP32", np.zeros(45 * MB, np.float32))
    refused("over the limit", client.infer, "identity-fp32", [too_large], status="StatusCode.RESOURCE_EXHAUSTED")
    refused("does not do", client.get_system_shared_memory_status, status="StatusCode.UNIMPLEMENTED")
    streams(client, ones)
    counted(client.get_inference_statistics("identity-fp32", as_json=True)["model_stats"][0])
    assert client.get_inference_statistics(as_json=True)["model_stats"]
    return client


def typed(client, datatype):
    """Values in the typed fields, as clients of other languages send them."""
    from tritonclient.grpc import service_pb2
    field = {"BOOL": "bool_contents", "INT64": "int64_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
             "FP64": "fp64_contents", "BYTES": "bytes_contents"}
    field = field.get(datatype, "uint_contents" if datatype.startswith("U") else "int_contents")
    values = VALUES[datatype].tolist()
    request = service_pb2.ModelInferRequest(model_name=f"identity-{datatype.lower()}")
    given = request.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    getattr(given.contents, field).extend(values)
    answer = client._client_stub.ModelInfer(request)
    assert np.array_equal(grpc.InferResult(answer).as_numpy("y"), VALUES[datatype]), datatype


def streams(client, ones):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    bad = tensor(grpc, "z", "FP32", VALUES["FP32"])
    for n in range(200):
        client.async_stream_infer("identity-fp32", [bad if n == 100 else ones], request_id=str(n))
    got = [answers.get(timeout=30) for _ in range(200)]
    client.stop_stream()
    for n, (result, error) in enumerate(got):
        if n == 100:
            assert "has no input `z`" in str(error), error
        else:
            assert error is None and result.get_response().id == str(n), (n, error)
            assert result.get_response().parameters["triton_final_response"].bool_param
    # A stream that is over when its time is.
    client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=0.5)
    result, error = answers.get(timeout=30)
    assert error is not None and "DEADLINE_EXCEEDED" in str(error), error
    client.stop_stream()


def the_health_service():
    import grpc as plain
    channel = plain.insecure_channel(URL)
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == b"\x08\x01"
    assert check(b"\x0a\x0didentity-fp32") == b"\x08\x01"
    for call, code in [
        (lambda: check(b"\x0a\x06absent"), plain.StatusCode.NOT_FOUND),
        (lambda: channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b""), plain.StatusCode.UNIMPLEMENTED),
        (lambda: channel.unary_unary("/no.Such/Service")(b""), plain.StatusCode.UNIMPLEMENTED),
        (lambda: channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff\xff"), plain.StatusCode.INTERNAL),
    ]:
        try:
            call()
        except plain.RpcError as error:
            assert error.code() == code, (error.code(), error.details())
        else:
            raise AssertionError(code)
    channel.close()


def repository(client, as_entries):
    def state(name):
        entries = as_entries(client.get_model_repository_index())
        return {entry.get("version"): entry.get("state") for entry in entries if entry["name"] == name}

    if MODE == "one":
        assert state("identity-fp32") == {"1": "READY"}
        refused("stays", client.load_model, "identity-fp32")
        refused("stays", client.unload_model, "identity-fp32")
        return
    assert state("identity-fp32") == {"1": "READY"} and state("spare") == {"1": "UNAVAILABLE"}
    client.load_model("spare")
    assert client.is_model_ready("spare") and state("spare") == {"1": "READY"}
    refused("as it was published", client.load_model, "spare", config="{}")
    client.unload_model("spare")
    assert state("spare")["1"] in ("UNAVAILABLE", "UNLOADING")
    for _ in range(100):
        if state("spare") == {"1": "UNAVAILABLE"}:
            break
        time.sleep(0.1)
    assert state("spare") == {"1": "UNAVAILABLE"}
    refused("absent", client.load_model, "absent")
    refused("not deployed", client.unload_model, "spare")


def main():
    plain = over_http()
    repository(plain, lambda entries: entries)
    plain.close()
    print("http")
    client = over_grpc()
    repository(client, lambda index: [
        {"name": m.name, "version": m.version, "state": m.state} for m in index.models
    ])
    the_health_service()
    # Several threads on one connection.
    ones = tensor(grpc, "x", "FP32", np.ones(1000, np.float32))
    failures = []

    def work():
        for _ in range(50):
            if client.infer("identity-fp32", [ones]).as_numpy("y").sum() != 1000:
                failures.append("wrong")

    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    client.close()
    print("ok")


main()
