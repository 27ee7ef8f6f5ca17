"""The numbers in pipelines.rs: what ONNX Runtime makes of a made-up voice with Silero VAD, window by window.

    pip install numpy==2.4.6 onnxruntime==1.32.0
    python silero_expected.py silero_vad_16k_op15.onnx
"""

import sys

import numpy as np
import onnxruntime

# A buzz of 140 Hz with overtones that fall off, three beats a second, from 0.5 s to 1.5 s of 2 s.
time = np.arange(32_000) / 16_000
voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
beat = 0.5 - 0.5 * np.cos(2 * np.pi * 3 * time)
inside = (0.5 <= time) & (time < 1.5)
samples = np.trunc(voice * beat * inside * 8000).astype(np.int16).astype(np.float32) / 32768

session = onnxruntime.InferenceSession(sys.argv[1])
state = np.zeros((2, 1, 128), np.float32)
context = np.zeros(64, np.float32)
probabilities = []
for start in range(0, len(samples), 512):
    window = samples[start : start + 512]
    window = np.concatenate([context, window, np.zeros(512 - len(window), np.float32)])[None]
    output, state = session.run(None, {"input": window, "state": state, "sr": np.array(16000, np.int64)})
    probabilities.append(float(output[0, 0]))
    context = window[0, -64:]
print([round(p, 4) for p in probabilities])
