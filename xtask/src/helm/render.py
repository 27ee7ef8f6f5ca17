"""Renders the chart with Helm's own engine and looks at what comes out. No cluster is asked.

Arguments: the chart, the folder of values that must work, the file of values that must be refused, the version of
Kubernetes, the file with schemas of resources that are not Kubernetes' own. Prints one JSON object:
`renders` (by name of the values: the documents) and `problems` (sentences).
"""

import base64
import json
import pathlib
import subprocess
import sys
import tempfile

import helm_python
import jsonschema
import kubernetes_validate
import yaml

# Severities of lint's messages; below are remarks.
WARNING = 2


def merged(base, over):
    """The values of `over` laid over those of `base`."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def schema_problem(document, version, own):
    """What a schema has against the document, or None."""
    kind = document.get("kind")
    try:
        if kind in own:
            jsonschema.Draft202012Validator(own[kind]).validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return f"{'.'.join(map(str, error.path))}: {error.message[:500]}"
    except kubernetes_validate.SchemaNotFoundError:
        return "there is no schema for it"
    return None


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document is not None]


def look(chart, name, values, version, own, problems):
    """Renders with one set of values; gives the documents."""
    report = helm_python.lint(chart, values, strict=True, kube_version=f"v{version}.0")
    problems += [f"{name}: {error}" for error in report["errors"]]
    problems += [f"{name}: {m['path']}: {m['error']}" for m in report["messages"] if WARNING <= m["severity"]]
    found = []
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(loaded.merge_values(values))
        rendered = loaded.render(values, name="demo", namespace="models")
    for template, text in sorted(rendered.items()):
        if template.endswith("NOTES.txt"):
            if not text.strip():
                problems.append(f"{name}: {template} is empty")
            continue
        for document in documents(text):
            problem = schema_problem(document, version, own)
            what = f"{name}: {template}: {document.get('kind')}"
            if problem:
                problems.append(f"{what}: {problem}")
            if document.get("kind") == "Secret":
                for key, value in document.get("data", {}).items():
                    base64.b64decode(value, validate=True)
            found.append({"template": template, "document": document})
    return found


def refused(chart, values):
    """Helm's words when it refuses the values, or None when it takes them."""
    try:
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(loaded.merge_values(values))
            loaded.render(values, name="demo", namespace="models")
    except helm_python.HelmError as error:
        return str(error)
    return None


def proxy_problem(found):
    """What the proxy itself has against its settings, or None. Where there is no proxy there are none."""
    maps = [one["document"] for one in found if one["document"]["kind"] == "ConfigMap"]
    settings = [of["data"]["Caddyfile"] for of in maps if "Caddyfile" in of["data"]]
    pods = [one["document"]["spec"].get("template", {}).get("spec", {}) for one in found if "spec" in one["document"]]
    proxies = [c for pod in pods for c in pod.get("initContainers", []) if c["name"] == "proxy"]
    if len(settings) != len(proxies):
        return f"{len(proxies)} proxies have {len(settings)} settings"
    if not settings:
        return None
    caddy = pathlib.Path(sys.executable).parent / "caddy"
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "Caddyfile")
        file.write_text(settings[0])
        command = [caddy, "validate", "--config", file, "--adapter", "caddyfile"]
        environment = {"HOME": folder, "BMS_TOKEN": "a", "BMS_METRICS_TOKEN": "b"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
    return run.stderr[-500:] if run.returncode else None


def main():
    chart, good, wrong, version, own = sys.argv[1:]
    own = json.loads(pathlib.Path(own).read_text())
    problems, renders = [], {}
    # A checker that finds nothing would be no use: it has to find this.
    broken = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": "two"}}
    if schema_problem(broken, version, own) is None:
        problems.append("the schemas admit a number of replicas that is a word")
    files = sorted(pathlib.Path(good).glob("*.yaml"))
    sets = {"defaults": {}} | {file.stem: yaml.safe_load(file.read_text()) for file in files}
    for name, values in sets.items():
        found = look(chart, name, values, version, own, problems)
        problem = proxy_problem(found)
        if problem:
            problems.append(f"{name}: the proxy refuses its settings: {problem}")
        renders[name] = found
    cases = yaml.safe_load(pathlib.Path(wrong).read_text())
    for case in cases:
        said = refused(chart, merged(sets[case["from"]], case["values"]))
        if said is None:
            problems.append(f"wrong values are taken: {case['values']}")
        elif case["says"] not in said:
            problems.append(f"{case['values']} are refused with other words than `{case['says']}`: {said}")
    json.dump({"renders": renders, "problems": problems, "refused": len(cases)}, sys.stdout)


main()
