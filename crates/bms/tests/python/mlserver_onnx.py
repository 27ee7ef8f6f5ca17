"""A model runtime of MLServer, as somebody who uses it would write one: ONNX Runtime behind MLServer's protocol."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse, MetadataTensor


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        kinds = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(bool)": "BOOL"}

        def tensors(values):
            shape = lambda value: [dim if isinstance(dim, int) else -1 for dim in value.shape]
            return [
                MetadataTensor(name=value.name, datatype=kinds[value.type], shape=shape(value))
                for value in values
            ]

        self.inputs = tensors(self._session.get_inputs())
        self.outputs = tensors(self._session.get_outputs())
        return True

    async def predict(self, payload):
        given = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        names = [output.name for output in self._session.get_outputs()]
        results = self._session.run(names, given)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, result) for name, result in zip(names, results)],
        )
