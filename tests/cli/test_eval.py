# SPDX-License-Identifier: Apache-2.0
"""`vharm eval` and `vharm rank` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")
from PIL import Image
from scenes import write_photographs

from vharm import data
from vharm.data.types import Sample


def write_set(folder: Path, count: int = 4) -> Path:
    """Composites, masks and true pictures in folders as published sets have them."""
    rng = np.random.default_rng(0)
    for part in ("composite_images", "masks", "real_images"):
        (folder / part).mkdir(parents=True)
    names = []
    for number in range(count):
        rows, columns = np.mgrid[:48, :64]
        real = np.stack([90 + rows, 60 + 2 * columns, 120 + rows], -1) + rng.integers(0, 20, 3)
        mask = np.zeros((48, 64), np.uint8)
        mask[10:34, 14:44] = 255
        pasted = np.where(mask[..., None] > 0, real * [0.6, 0.8, 1.1], real)
        Image.fromarray(real.astype(np.uint8)).save(folder / "real_images" / f"p{number}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"p{number}_1.png")
        name = f"p{number}_1_1.jpg"
        Image.fromarray(pasted.clip(0, 255).astype(np.uint8)).save(
            folder / "composite_images" / name, quality=98, subsampling=0
        )
        names.append(name)
    (folder / f"{folder.name}_test.txt").write_text("\n".join(names) + "\n")
    return folder


class FolderSet:
    """Reads what `write_set` wrote."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.folder = folder
        self.paths = sorted((folder / "composite_images").iterdir())[:limit]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        name = self.paths[index].stem
        return Sample(
            name, self._read(self.paths[index]),
            self._read(self.folder / "masks" / f"{name[:4]}.png"),
            self._read(self.folder / "real_images" / f"{name[:2]}.jpg"),
        )  # fmt: skip

    @staticmethod
    def _read(path: Path) -> torch.Tensor:
        array = np.asarray(Image.open(path)).copy()
        return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)[
            None
        ]


@pytest.fixture
def opened(monkeypatch):
    """`vharm.data.open_data` reads folders of `write_set`; gives the calls."""
    calls = []

    def open_data(path, **options):
        calls.append(options)
        return FolderSet(Path(path), options["limit"])

    monkeypatch.setattr(data, "open_data", open_data, raising=False)
    monkeypatch.setattr("vharm.cli.eval.open_luts", lambda path, part: (path, part))
    return calls


def test_eval_writes_a_table_and_a_report(vharm, tmp_path, opened):
    folder = write_set(tmp_path / "HCOCO")
    result = vharm("eval", "--data", folder, "--split", "test", "--method", "mkl,reinhard",
                   "--report", tmp_path / "out", "--json", tmp_path / "all.json",
                   "--images", 2)  # fmt: skip
    assert result.exit_code == 0, result.output
    unsaid = {
        "limit": None,
        "repeats": 1,
        "layout": None,
        "masks": None,
        "dancing": None,
        "close_up": None,
        "size": None,
    }
    assert opened == [{"split": "test", "recolour": None, "luts": (), "seed": 0, **unsaid}]
    lines = [line.split() for line in result.stdout.splitlines()]
    order = [line[0] for line in lines if line and line[0] in ("composite", "mkl", "reinhard")]
    assert order == ["composite", "mkl", "reinhard"]
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["clips"] == 4
    assert found["totals"]["mkl"]["fMSE"]["mean"] < found["totals"]["composite"]["fMSE"]["mean"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<article") == 2
    assert (tmp_path / "out" / "clips.csv").read_text().count("\n") == 1 + 12


def test_eval_reads_published_folders(vharm, tmp_path):
    if not hasattr(data, "open_data"):
        pytest.skip("this build has no readers of data sets")
    folder = write_set(tmp_path / "HCOCO", 2)
    result = vharm("eval", "--data", folder, "--method", "mkl", "--json", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["clips"] == 2
    assert "fMSE" in found["totals"]["mkl"]


def test_eval_takes_its_options(vharm, tmp_path, opened):
    folder = write_set(tmp_path / "set")
    result = vharm("eval", "--data", folder, "--recolour", "lut", "--luts", "x.npz", "--seed", 7,
                   "--limit", 2, "--protocol", "co2net", "--size", 32, "--metrics", "mse,fmse",
                   "--method", "mkl", "--json", tmp_path / "a.json", "-q")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert opened[0]["recolour"] == ("lut",)
    assert opened[0]["luts"] == ("x.npz", "held-out")
    assert opened[0]["seed"] == 7
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["clips"] == 2
    assert found["protocol"]["size"] == [32, 32]
    assert [metric["name"] for metric in found["metrics"]] == ["MSE", "fMSE"]
    assert found["settings"]["data"]["recolour"] == "lut"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "--data: there is no nowhere"),
        (["--data", ".", "--report", "no/out"], "--report: there is no folder"),
        (["--data", ".", "--json", "no/a.json"], "--json: there is no folder"),
        (["--data", ".", "--luts", "a.npz"], "--luts: is for --recolour lut"),
        (["--data", ".", "--recolour", "lut"], "--luts: is needed for --recolour lut"),
        (["--data", "set", "--method", "mlk"], "no method 'mlk'; did you mean 'mkl'"),
        (["--data", "set", "--metrics", "LPIPS"], "--metrics: expected some of MSE"),
    ],
)
def test_eval_refuses(vharm, tmp_path, opened, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "set", 1)
    result = vharm("eval", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_nothing_is_replaced_unasked(vharm, tmp_path, opened):
    folder = write_set(tmp_path / "set", 1)
    options = ["eval", "--data", folder, "--method", "mkl", "--report", tmp_path / "out"]
    assert vharm(*options).exit_code == 0
    again = vharm(*options)
    assert again.exit_code == 2
    assert "-y replaces it" in again.stderr
    assert vharm(*options, "-y").exit_code == 0


def test_rank(vharm, tmp_path):
    pytest.importorskip("choix")
    path = tmp_path / "choices.csv"
    path.write_text("winner,loser\n" + "mkl,composite\n" * 8 + "composite,mkl\n" * 2)
    result = vharm("rank", path, "--bootstrap", 20)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].split()[0] == "mkl"
    assert lines[2].split()[0] == "composite"
    assert "80.0 %" in lines[1]
    assert "Bradley-Terry scores of 10 choices" in result.stdout
    found = json.loads(vharm("rank", path, "--json", "--bootstrap", 0).stdout)
    assert found["items"][0]["name"] == "mkl"
    assert found["items"][0]["low"] is None
    missing = vharm("rank", tmp_path / "none.csv")
    assert missing.exit_code == 2
    assert "none.csv" in missing.stderr


def test_photographs_can_be_set_in_motion(vharm, tmp_path):
    folder = write_photographs(tmp_path / "set", 2)
    result = vharm("eval", "--data", folder, "--recolour", "filters", "--dancing", 3, "--size", 32,
                   "--method", "mkl", "--metrics", "PSNR,L_T1",
                   "--json", tmp_path / "all.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["frames"] == 6
    assert set(found["totals"]["composite"]) == {"PSNR", "L_T1"}
    assert found["settings"]["data"]["dancing"] == 3
    assert found["flow"] == {"exact": 2}
    again = vharm("eval", "--data", folder, "--dancing", 2, "--method", "mkl")
    assert again.exit_code != 0
    assert "recolour: expected a kind" in again.output
    twice = vharm("eval", "--data", folder, "--dancing", 2, "--repeats", 2, "--recolour", "filters",
                  "--method", "mkl")  # fmt: skip
    assert "dancing samples are not repeated" in twice.output
