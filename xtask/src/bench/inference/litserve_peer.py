import os

import litserve

import graph


class Mlp(litserve.LitAPI):
    def setup(self, device):
        self.graph = graph.load()

    def decode_request(self, request):
        return request["inputs"][0]

    def predict(self, tensor):
        return graph.run(self.graph, tensor)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Mlp(api_path="/v2/models/mlp/infer"), accelerator="cpu")
    port = int(os.environ["BENCH_PORT"])
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="error", generate_client_file=False)
