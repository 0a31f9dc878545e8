# SPDX-License-Identifier: Apache-2.0
"""Help, methods, doctor, and starting without the packages the command needs."""

from __future__ import annotations

import json
import subprocess
import sys
from enum import Enum

import pytest

import vharm as package
from vharm import ops
from vharm.cli import _options, _selftest
from vharm.methods import shipped
from vharm.session import COMPARISONS, TEMPORAL


def values(kind: type[Enum]) -> set[str]:
    return {member.value for member in kind}


def test_choices_are_those_of_the_library():
    assert values(_options.Temporal) == set(TEMPORAL)
    assert values(_options.Compare) == set(COMPARISONS)


def test_help_answers_questions(vharm):
    text = vharm("--help").output
    for command in ("harmonize", "methods", "doctor", "demo"):
        assert command in text
    text = vharm("harmonize", "--help").output
    for phrase in (
        "No mask?",
        "Examples",
        "--mask-feather",
        "--temporal",
        "--cube-out",
        "[required]",
    ):
        assert phrase in text
    assert "default: smooth" in text


def test_version(vharm):
    result = vharm("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == f"vharm {package.__version__}"


def test_methods(vharm, monkeypatch, tmp_path):
    result = vharm("methods")
    assert result.exit_code == 0
    assert "not yet" not in result.stdout
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    result = vharm("methods")
    assert result.exit_code == 0
    for word in ("mkl", "default", "reinhard", "harmonizer", "Apache-2.0", "not yet", "weights"):
        assert word in result.stdout
    rows = json.loads(vharm("methods", "--json").stdout)
    assert {row["name"] for row in rows} >= {"mkl", "reinhard", "histogram", "harmonizer"}
    assert all(row["available"] or row["reason"] for row in rows)


def test_doctor(vharm):
    result = vharm("doctor")
    assert result.exit_code == 0, result.output
    for word in (
        "python",
        "torch",
        "ffmpeg",
        "vharm._C",
        "vharm._cuda",
        "filter_chain",
        "Self-test",
    ):
        assert word in result.stdout
    found = json.loads(vharm("doctor", "--json").stdout)
    assert found["versions"]["vharm"] == package.__version__
    assert {row["op"] for row in found["backends"]["cpu"]} == {c.op for c in ops.explain()}
    assert all(row["ok"] for row in found["self_test"]), found["self_test"]


def test_doctor_says_what_is_missing(vharm, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "nvtx" else real(name, *a)
    )
    assert 'nvtx, for named ranges in GPU profiles: pip install "vharm[profile]"' in (
        vharm("doctor").stdout
    )


def test_doctor_says_what_runs_the_network(vharm, monkeypatch):
    from vharm.cli import doctor

    assert doctor.engines()["harmonizer on cpu"].split()[0] in ("torch", "onnxruntime")
    text = "onnx is not installed: pip install"
    monkeypatch.setattr(doctor, "why_not_onnxruntime", lambda: text)
    monkeypatch.setattr(doctor, "choose_engine", lambda: "torch")
    monkeypatch.setattr(doctor, "run_self_tests", list)
    output = " ".join(vharm("doctor").stdout.split())
    assert f"harmonizer on cpu torch (onnxruntime: {text})" in output


def test_every_op_has_a_self_test():
    assert {choice.op for choice in ops.explain()} <= set(_selftest.CASES)


@pytest.mark.parametrize("choice", ops.explain(), ids=lambda choice: choice.op)
def test_self_tests_run_on_the_reference(choice):
    """Against itself the reference is right to the last bit, so cases are deterministic."""
    row = _selftest._compare(choice.op, "reference", _selftest.torch.device("cpu"))
    assert row["ok"], row
    assert row["detail"] == "largest difference 0.0e+00"


def test_a_wrong_kernel_is_seen(vharm, monkeypatch):
    """Negative control: an op whose fast backend is a little off fails the self-test."""
    if "filter_chain" not in {row["op"] for row in _selftest.run_self_tests()}:
        pytest.skip("no fast backend here")
    right = _selftest.CASES["filter_chain"]

    def wrong(device):
        (out,) = right(device)
        return (out + (0 if ops._backends.forced() == "reference" else 1e-3),)

    monkeypatch.setitem(_selftest.CASES, "filter_chain", wrong)
    result = vharm("doctor")
    assert result.exit_code == 1
    assert "WRONG" in result.stdout


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_packages_the_command_says_how_to_get_them(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from vharm.cli import main\n"
        "sys.argv = ['vharm', 'doctor']\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert 'pip install "vharm[cli]"' in result.stderr
    assert missing in result.stderr


def test_the_command_starts_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "vharm", "--version"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"vharm {package.__version__}\n"
