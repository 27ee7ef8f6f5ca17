import asyncio
import logging
import os

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

import graph


class Mlp(MLModel):
    async def load(self):
        self.graph = graph.load()
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        values = self.graph.run(None, {"x": rows})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", values)])


async def serve():
    port = int(os.environ["BENCH_PORT"])
    # Workers of their own cost a tiny model more than they bring.
    settings = Settings(host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, parallel_workers=0)
    server = MLServer(settings)
    logging.disable(logging.INFO)
    await server.start([ModelSettings(name="mlp", implementation="mlserver_peer.Mlp")])


if __name__ == "__main__":
    asyncio.run(serve())
