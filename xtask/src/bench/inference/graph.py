"""The graph that every peer runs: ONNX Runtime on one thread."""

import os

import numpy as np
import onnxruntime


def load():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)


def run(graph, tensor):
    rows = np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    values = graph.run(None, {tensor["name"]: rows})[0]
    output = {"name": "y", "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
    return {"model_name": "mlp", "outputs": [output]}
