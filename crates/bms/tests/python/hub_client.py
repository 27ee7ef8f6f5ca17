"""The unmodified huggingface_hub against a server: ADDRESS, MODEL, FOLDER with the files of its version 1."""

import hashlib
import io
import pathlib
import sys
import tempfile

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get

address, model, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
assert constants.ENDPOINT == address, constants.ENDPOINT
files = {
    str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
}
api = HfApi()


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind} expected")


# What is there.
info = api.model_info(model)
assert info.id == model and len(info.sha) == 40, info
assert {sibling.rfilename for sibling in info.siblings} == set(files), info.siblings
detailed = api.model_info(model, files_metadata=True)
for sibling in detailed.siblings:
    content = files[sibling.rfilename]
    assert sibling.size == len(content) and sibling.lfs.sha256 == hashlib.sha256(content).hexdigest()
assert set(api.list_repo_files(model)) == set(files)
tree = list(api.list_repo_tree(model, recursive=True))
assert {entry.path for entry in tree if hasattr(entry, "lfs")} == set(files), tree
assert api.repo_exists(model) and not api.repo_exists("nobody")
assert api.file_exists(model, "bundle.json") and not api.file_exists(model, "nothing")
assert api.revision_exists(model, "v1") and not api.revision_exists(model, "v999")
refs = api.list_repo_refs(model)
assert "v1" in {tag.name for tag in refs.tags} and "production" in {branch.name for branch in refs.branches}, refs

# Every name of the version is the same commit.
for revision in ["main", "production", "v1", "1", info.sha]:
    assert api.model_info(model, revision=revision).sha == info.sha, revision

# One file, all files, and again from what is there.
for name, content in files.items():
    path = hf_hub_download(model, name)
    assert pathlib.Path(path).read_bytes() == content and info.sha in path, path
for revision in ["main", "v1", info.sha]:
    got = pathlib.Path(snapshot_download(model, revision=revision))
    assert {str(p.relative_to(got)): p.read_bytes() for p in got.rglob("*") if p.is_file()} == files, revision
with tempfile.TemporaryDirectory() as plain:
    snapshot_download(model, local_dir=plain, allow_patterns=["*.json"])
    names = [str(p.relative_to(plain)) for p in pathlib.Path(plain).rglob("*") if p.is_file()]
    assert {n for n in names if not n.startswith(".cache")} == {n for n in files if n.endswith(".json")}, names

# A download that goes on.
largest = max(files, key=lambda name: len(files[name]))
content = files[largest]
half = io.BytesIO()
half.write(content[: len(content) // 2])
http_get(hf_hub_url(model, largest), half, resume_size=len(content) // 2, expected_size=len(content))
assert half.getvalue() == content

# What is missing is said in the client's terms.
refused(RepositoryNotFoundError, lambda: api.model_info("nobody"))
refused(RepositoryNotFoundError, lambda: api.model_info("owner/name"))
refused(RepositoryNotFoundError, lambda: hf_hub_download("owner/name", "config.json"))
refused(RevisionNotFoundError, lambda: api.model_info(model, revision="v999"))
refused(RevisionNotFoundError, lambda: hf_hub_download(model, "bundle.json", revision="f" * 40))
refused(EntryNotFoundError, lambda: hf_hub_download(model, "nothing"))
refused(EntryNotFoundError, lambda: list(api.list_repo_tree(model, "no/folder")))

print(f"{len(files)} files of {model}@{info.sha[:12]}")
print("ok")
