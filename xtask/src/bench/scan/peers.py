"""Runs one scanner, in this process, over a labelled folder or several times over one file.

Nothing is loaded or unpickled: each scanner's own entry point for a path is called. An exception is an error, not a
detection. Usage: peers.py NAME corpus|throughput PATH
"""

import io
import json
import logging
import os
import resource
import sys
import time
import zipfile
from contextlib import redirect_stderr, redirect_stdout

logging.disable(logging.CRITICAL)


def picklescan():
    from picklescan.scanner import scan_file_path

    def scan(path):
        result = scan_file_path(path)
        return result.infected_files > 0, result.scan_err

    return scan


def modelscan():
    from modelscan.modelscan import ModelScan

    def scan(path):
        scanner = ModelScan()
        scanner.scan(path)
        return len(scanner.issues.all_issues) > 0, len(scanner.errors) > 0

    return scan


def modelaudit():
    from modelaudit.core import scan_model_directory_or_file

    def scan(path):
        result = scan_model_directory_or_file(path)
        levels = {str(getattr(issue.severity, "value", issue.severity)).lower() for issue in result.issues}
        return bool(levels & {"warning", "error", "critical"}), bool(result.has_errors)

    return scan


def fickling():
    from fickling.analysis import Severity, check_safety
    from fickling.fickle import StackedPickle

    def unsafe(stream):
        return any(check_safety(pickle).severity > Severity.LIKELY_SAFE for pickle in StackedPickle.load(stream))

    def scan(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                pickles = [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]
                return any(unsafe(io.BytesIO(archive.read(name))) for name in pickles), False
        with open(path, "rb") as stream:
            return unsafe(stream), False

    return scan


def quietly(scan, path):
    sink = io.StringIO()
    started = time.perf_counter()
    try:
        with redirect_stdout(sink), redirect_stderr(sink):
            flagged, error = scan(path)
    except BaseException as failure:  # noqa: BLE001: whatever it is, the scanner gave up
        if isinstance(failure, KeyboardInterrupt):
            raise
        flagged, error = False, True
    return bool(flagged), bool(error), time.perf_counter() - started


def corpus(scan, folder):
    with open(os.path.join(folder, "labels.json"), encoding="utf-8") as file:
        labels = json.load(file)
    for label in labels:
        flagged, error, seconds = quietly(scan, os.path.join(folder, label["file"]))
        print(json.dumps({"file": label["file"], "flagged": flagged, "error": error, "micros": int(seconds * 1e6)}))


def throughput(scan, path, rounds=3):
    quietly(scan, path)
    before = time.process_time()
    results = [quietly(scan, path) for _ in range(rounds)]
    processor = (time.process_time() - before) / rounds
    seconds = sorted(result[2] for result in results)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "bytes": os.path.getsize(path),
                "flagged": any(result[0] for result in results),
                "seconds_best": seconds[0],
                "seconds_median": seconds[rounds // 2],
                "processor_seconds": processor,
                "peak_bytes": peak,
            }
        )
    )


if __name__ == "__main__":
    name, mode, path = sys.argv[1:]
    scanner = {"picklescan": picklescan, "modelscan": modelscan, "modelaudit": modelaudit, "fickling": fickling}[name]()
    {"corpus": corpus, "throughput": throughput}[mode](scanner, path)
