"""Where a result comes from: named exactly, kept completely, the same for the copy that travels with a job."""

import hashlib
import subprocess

import pytest

from transvae_platform import lineage as module
from transvae_platform.lineage import Code, code, installed, lineage, write_code


def git(root, *arguments):
    command = ("git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments)
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    for name in ("models", "platform", "docs"):
        (root / name).mkdir(parents=True)
        (root / name / "a.py").write_text("one = 1\n")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_clean_checkout_is_its_commit(checkout):
    (checkout / "docs" / "a.py").write_text("notes change no result\n")
    found = code(checkout)
    assert found == Code(git(checkout, "rev-parse", "HEAD").strip(), "")
    assert found.name.endswith(f"+g{found.commit[:10]}")


def test_the_difference_restores_what_ran(checkout, tmp_path):
    (checkout / "models" / "a.py").write_bytes("one = 2  # caf\u00e9\n".encode("latin-1"))
    (checkout / "platform" / "new file.py").write_text("two = 2")
    (checkout / "platform" / "a.py").unlink()
    git(checkout, "config", "color.ui", "always")
    found = code(checkout)
    assert ".dirty" in found.name
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(checkout), str(copy))
    (tmp_path / "it.diff").write_bytes(found.difference.encode("utf-8", "surrogateescape"))
    git(copy, "apply", str(tmp_path / "it.diff"))
    for name in ("models/a.py", "platform/new file.py"):
        assert (copy / name).read_bytes() == (checkout / name).read_bytes()
    assert not (copy / "platform" / "a.py").exists()


def test_a_jobs_copy_of_the_sources_keeps_their_version(checkout, tmp_path, monkeypatch):
    (checkout / "models" / "a.py").write_text("one = 3\n")
    original = code(checkout)
    monkeypatch.setattr(module, "code", lambda: original)
    write_code(tmp_path)
    assert code(tmp_path) == original


def test_without_git_the_commit_is_unknown(tmp_path):
    assert code(tmp_path) == Code("unknown", "")
    assert "+g" not in code(tmp_path).name


def test_record_is_flat_and_names_the_texts_it_keeps(checkout, tmp_path, monkeypatch):
    (checkout / "models" / "a.py").write_text("one = 4\n")
    original = code(checkout)
    monkeypatch.setattr(module, "code", lambda: original)
    record = lineage(tmp_path / "kept")
    assert lineage(tmp_path / "kept") == record
    assert all(isinstance(value, str | int) for value in record.values())
    assert (record["code"], record["commit"]) == (original.name, original.commit)
    texts = {f"{record['difference']}.diff": original.difference, f"{record['environment']}.txt": installed()}
    assert {path.name: path.read_text() for path in (tmp_path / "kept").iterdir()} == texts
    for name, text in texts.items():
        assert hashlib.sha256(text.encode()).hexdigest() == name.partition(".")[0]
    assert f"\ntorch=={record['torch']}\n" in installed()


def test_a_clean_checkout_keeps_no_difference(checkout, tmp_path, monkeypatch):
    original = code(checkout)
    monkeypatch.setattr(module, "code", lambda: original)
    assert lineage(tmp_path)["difference"] == "none"
    assert not list(tmp_path.glob("*.diff"))
