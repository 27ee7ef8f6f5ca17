//! Tensors and the ONNX run-times behind one interface.
