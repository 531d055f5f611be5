"""The source roots: what would shadow the standard library, hide a package, or break an import."""

import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models/transvae", "platform/transvae_platform", "dashboards/transvae_dashboards")


@pytest.mark.parametrize("root", ["models", "platform", "dashboards"])
def test_no_source_root_is_a_package(root):
    # platform/__init__.py would shadow the standard library's platform: Ray workers would hang without an error
    assert not (ROOT / root / "__init__.py").exists()


def test_platform_is_the_standard_library_from_the_root():
    code = "import platform, uuid, torch; print(platform.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == Path(sysconfig.get_paths()["stdlib"])
    assert Path(platform.__file__).parent == Path(sysconfig.get_paths()["stdlib"])


@pytest.mark.parametrize("package", PACKAGES)
def test_git_does_not_ignore_a_package(package):
    # a template's `models/` line in .gitignore would drop it from the wheel and from Ray's upload without a word
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    ignored = subprocess.run(["git", "check-ignore", "-q", f"{package}/__init__.py"], cwd=ROOT, check=False)
    assert ignored.returncode == 1


def test_every_image_library_imports_beside_this_torch():
    code = (
        "from transvae.torchvision_cpu import ensure_torchvision as ensure; ensure(); ensure();"
        "import lpips, timm, torch_fidelity, torchmetrics.functional.image"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def lines_of(name):
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def test_every_pinned_package_has_a_hash():
    locked, cuda = lines_of("locked.txt"), lines_of("locked-cuda.txt")
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in [*locked, *cuda])
    pins = set(lines_of("constraints.txt"))
    builds = {line for line in pins if line.startswith(("torch==", "torchvision=="))}
    assert {line.partition(" ")[0] for line in locked} == pins - builds, "run `make locked`"
    found = {line.partition(" ")[0] for line in cuda}
    assert builds <= found, "run `make locked`"
    assert not [pin for pin in found if "+" in pin], "builds of other places than PyPI"
    assert not {pin.partition("==")[0] for pin in found - builds} & {pin.partition("==")[0] for pin in pins}


@pytest.mark.parametrize(
    "name", ["cluster.yaml", "clusters/gcp.yaml", "clusters/on-premise.yaml", "clusters/Dockerfile"]
)
def test_nodes_install_nothing_but_by_its_hash(name):
    text = re.sub(r"^\s*#.*", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    assert {"locked.txt", "locked-cuda.txt"} <= set(re.findall(r"--requirement (\S+)", text))
    installs = re.findall(r"pip install(?:[^&\n]|\\\n)*", text)
    (own,) = [each for each in installs if "--require-hashes" not in each]
    assert "--no-deps --no-build-isolation --editable ." in own, "a build of its own would fetch what it builds with"


@pytest.mark.parametrize("module", ["cluster.submit", "training.loop"])
def test_what_starts_often_does_not_load_what_is_needed_later_or_never(module):
    """Half a second to three seconds each, at every submission, or before a resumed trial trains again."""
    code = f"import sys, transvae_platform.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"torchmetrics", "torchvision", "scipy.stats", "transformers"}
    assert module == "training.loop" or "torch.distributed.checkpoint" not in loaded
