import os
import sys

import bentoml

import graph


@bentoml.service(logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Mlp:
    def __init__(self):
        self.graph = graph.load()

    @bentoml.api(route="/v2/models/mlp/infer")
    def infer(self, inputs: list[dict]) -> dict:
        return graph.run(self.graph, inputs[0])


if __name__ == "__main__":
    program = os.path.join(os.path.dirname(sys.executable), "bentoml")
    port = os.environ["BENCH_PORT"]
    os.execv(program, [program, "serve", "bentoml_peer:Mlp", "--host", "127.0.0.1", "--port", port])
