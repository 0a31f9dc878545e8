# SPDX-License-Identifier: Apache-2.0
"""Names, plug-ins, and what is said of methods that cannot be used."""

from __future__ import annotations

import importlib.metadata

import pytest

from vharm import methods
from vharm.looks import LutLook
from vharm.methods import Method, registry, shipped
from vharm.methods.spec import split_options
from vharm.session import Session


class Plug(Method):
    name = "plug"
    summary = "does nothing"
    when_to_use = "in tests."
    source = "none"

    def __init__(self, *, option: int = 0) -> None:
        self.option = option

    def estimate(self, frames, masks, *, background=None, background_weight=None):
        given = self.request(frames, masks, background, background_weight)
        return [LutLook.identity() for _ in given.frames]


class Broken:
    """A plug-in module that fails when it is imported."""

    def __getattr__(self, name):
        raise OSError("its library is missing")


@pytest.fixture
def plugins(monkeypatch):
    """Sets what other packages' entry points say; each is (name, value, class or exception)."""

    def use(*points):
        class Point(importlib.metadata.EntryPoint):
            def load(self):
                found = next(p[2] for p in points if p[0] == self.name)
                if isinstance(found, Exception):
                    raise found
                return found

        found = [Point(name, value, registry.ENTRY_POINTS) for name, value, _ in points]
        monkeypatch.setattr(
            importlib.metadata,
            "entry_points",
            lambda *, group: found if group == "vharm.methods" else [],
        )

    return use


def test_names_and_default(plugins):
    plugins()
    assert methods.names() == [
        "mkl", "reinhard", "histogram", "harmonizer", "huang", "issam", "chen", "co2net", "vhmae",
    ]  # fmt: skip
    assert methods.default_name() == "harmonizer"
    for name in ("mkl", "reinhard", "histogram", "harmonizer"):
        assert methods.get(name).name == name


@pytest.fixture
def weightless(monkeypatch, tmp_path):
    """An installation that weights were left out of."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)


def test_without_weights_a_classical_method_is_the_default(plugins, weightless):
    plugins()
    assert methods.default_name() == "mkl"
    row = next(row for row in methods.describe() if row.name == "harmonizer")
    assert not row.available
    assert "--weights FILE" in row.reason
    assert "mkl" in row.reason


@pytest.mark.parametrize(
    ("wrong", "near"), [("harmoniser", "harmonizer"), ("rheinhard", "reinhard"), ("MKL", None)]
)
def test_unknown_names_get_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'" if near else "there are mkl"):
        methods.get(wrong)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="lightnes"):
        methods.get("mkl", lightnes=1)


def test_options_behind_a_name():
    assert split_options("mkl") == ("mkl", {})
    spec = "huang+look=residual+reach=3+flip=true+lightness=0.5"
    name, options = split_options(spec)
    assert name == "huang"
    assert options == {"look": "residual", "reach": 3, "flip": True, "lightness": 0.5}
    assert isinstance(options["reach"], int)
    assert split_options("issam:a+b.safetensors") == ("issam:a+b.safetensors", {})
    session = Session("mkl+lightness=1.0+colour=0.5", method_options={"colour": 0.25})
    assert (session.method.lightness, session.method.colour) == (1.0, 0.25)
    with pytest.raises(TypeError, match="lightnes"):
        Session("mkl+lightnes=1")


def test_describe_says_what_works_and_why_not():
    rows = {row.name: row for row in methods.describe()}
    assert rows["mkl"].available
    assert rows["mkl"].reason is None
    assert rows["harmonizer"].available
    assert rows["harmonizer"].weights_licence == "CC BY-NC 4.0"
    for row in rows.values():
        assert row.summary
        assert row.when_to_use
        assert row.licence


def test_plugins_are_found_by_entry_point(plugins):
    plugins(("plug", "other.package:Plug", Plug))
    assert "plug" in methods.names()
    assert methods.get("plug", option=3).option == 3
    row = next(r for r in methods.describe() if r.name == "plug")
    assert row.available
    assert row.summary == "does nothing"
    assert methods.default_name() == "harmonizer"


def test_broken_plugins_are_told_and_hide_nothing(plugins):
    plugins(
        ("bad", "other.bad:Bad", OSError("its library is missing")),
        ("odd", "other.odd:thing", object()),
        ("mkl", "other.mkl:Mkl", Plug),
    )
    with pytest.raises(RuntimeError, match=r"'bad' \(other.bad:Bad\).*library is missing") as e:
        methods.get("bad")
    assert isinstance(e.value.__cause__, OSError)
    with pytest.raises(RuntimeError, match="not a class derived from"):
        methods.get("odd")
    rows = [(r.name, r.available, r.reason) for r in methods.describe()]
    assert ("mkl", True, None) in rows
    reasons = {name: reason for name, available, reason in rows if not available}
    assert "library is missing" in reasons["bad"]
    assert "not a class" in reasons["odd"]
    assert "taken" in reasons["mkl"]
    assert type(methods.get("mkl")).__name__ == "Mkl"


def test_register(monkeypatch):
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    assert methods.register(Plug) is Plug
    assert methods.register(Plug) is Plug
    assert isinstance(methods.get("plug"), Plug)

    class Taken(Plug):
        name = "mkl"

    with pytest.raises(ValueError, match="'mkl' is taken by Mkl"):
        methods.register(Taken)
    methods.register(Taken, replace=True)
    assert isinstance(methods.get("mkl"), Taken)
    with pytest.raises(TypeError, match="derived from"):
        methods.register(object)


def test_trained_methods_come_first(monkeypatch, weightless):
    class Trained(Plug):
        name = "trained"
        needs_weights = True

    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    methods.register(Trained)
    assert methods.default_name() == "trained"
