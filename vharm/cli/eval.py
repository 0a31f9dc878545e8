# SPDX-License-Identifier: Apache-2.0
"""`vharm eval`: methods on a data set, as tables and a report."""

from __future__ import annotations

import warnings
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from rich.console import Console

from . import _options as o
from ._errors import guarded
from ._progress import progress_bar

DATA, HOW, OUT = "The data", "What is compared, and how", "What is written"


class Recolour(str, Enum):
    """How composites are made from natural pictures."""

    none = "none"
    lut = "lut"
    filters = "filters"
    transfer = "transfer"


class LutsPart(str, Enum):
    """Which tables composites are made with."""

    held_out = "held-out"
    train = "train"
    all = "all"


class ProtocolName(str, Enum):
    """How metrics are computed."""

    vharm = "vharm"
    co2net = "co2net"


def _option(panel: str, *names: str, text: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


Data = Annotated[
    str, _option(DATA, "--data", metavar="PATH", text="The data set's folder (or list file).")
]
Split = Annotated[
    str | None, _option(DATA, "--split", metavar="NAME", text="The part of it, such as val, test.")
]
RecolourOption = Annotated[
    Recolour | None,
    _option(
        DATA, "--recolour",
        text="Make composites from natural pictures with masks by recolouring what the mask "
        "covers; the picture itself is then the true answer. none: the data are composites.",
    ),
]  # fmt: skip
Luts = Annotated[
    str | None,
    _option(DATA, "--luts", metavar="FILE", text="LUTs for --recolour lut: a folder of .cube "
            "files, or an .npz."),
]  # fmt: skip
LutsPartOption = Annotated[
    LutsPart,
    _option(
        DATA, "--luts-part",
        text="held-out: the tables vharm train never sees, so that a trained network is not asked "
        "what it was told. all: for methods without training, or a folder of few.",
    ),
]  # fmt: skip
Seed = Annotated[int, _option(DATA, "--seed", text="Of everything that is drawn at random.")]
Repeats = Annotated[
    int,
    _option(
        DATA, "--repeats", min=1, metavar="N",
        text="Make so many composites of each picture or clip, with other tables or draws.",
    ),
]  # fmt: skip
Dancing = Annotated[
    int | None,
    _option(
        DATA, "--dancing", min=2, metavar="FRAMES",
        text="Set each photograph in motion for so many frames, with exact flow (L_T1 is measured "
        "on it): the foreground, recoloured, moves over its slowly cropped background.",
    ),
]  # fmt: skip
CloseUp = Annotated[
    float | None,
    _option(
        DATA, "--close-up", metavar="SHARE",
        text="Crop each picture around its foreground until that takes this share of it (0.6: 60 "
        "to 70 %); pictures where it cannot are left out.",
    ),
]  # fmt: skip
Layout = Annotated[
    str | None,
    _option(DATA, "--layout", metavar="NAME", text="The folder's layout, where several fit."),
]
Masks = Annotated[
    str | None,
    _option(DATA, "--masks", metavar="NAME", text='Folder of masks, such as "masks_tight".'),
]
Limit = Annotated[
    int | None, _option(DATA, "--limit", min=1, metavar="N", text="Only so many, evenly spread.")
]
Methods = Annotated[
    str | None,
    _option(
        HOW, "--method", metavar="A,B,C",
        text="Methods to compare; vharm methods lists them. NAME:FILE gives a network its "
        "weights, NAME@lock (smooth, per-frame) its own way over time, NAME+look=residual an "
        "option of its own, NAME+masks=found no mask at all, NAME+raw=given (zero, one, predicted) "
        "scores what the network paints, not composited; LABEL=NAME names the row. The composite "
        "is always the first row. "
        "Default: the method vharm harmonize would take.",
    ),
]  # fmt: skip
Size = Annotated[
    int | None,
    _option(
        HOW, "--size", min=16, metavar="PIXELS",
        text="Resize everything to this square first. Default: as it is; 256 under co2net.",
    ),
]  # fmt: skip
ProtocolOption = Annotated[
    ProtocolName,
    _option(
        HOW, "--protocol",
        text="vharm: the definitions as papers state them. co2net: as the code computes them that "
        "published video tables come from.",
    ),
]  # fmt: skip
Rounded = Annotated[
    bool, _option(HOW, "--rounded", text="Score results in 8 bits, as files hold them.")
]
MetricNames = Annotated[
    str | None, _option(HOW, "--metrics", metavar="A,B", text="Only these; default: all.")
]
ReportFolder = Annotated[
    str | None,
    _option(
        OUT, "--report", metavar="FOLDER",
        text="report.html (tables, charts, pictures to compare), table.md, clips.csv and "
        "evaluation.json.",
    ),
]  # fmt: skip
JsonFile = Annotated[
    str | None, _option(OUT, "--json", metavar="FILE", text="evaluation.json by itself.")
]
Images = Annotated[
    int, _option(OUT, "--images", min=0, metavar="N", text="Clips shown in report.html.")
]
Overwrite = Annotated[
    bool, _option(OUT, "--overwrite/--no-overwrite", "-y", text="Replace what stands there.")
]


@guarded
def evaluate(
    data: Data,
    split: Split = None,
    recolour: RecolourOption = None,
    luts: Luts = None,
    luts_part: LutsPartOption = LutsPart.held_out,
    seed: Seed = 0,
    repeats: Repeats = 1,
    dancing: Dancing = None,
    close_up: CloseUp = None,
    layout: Layout = None,
    masks: Masks = None,
    limit: Limit = None,
    method: Methods = None,
    size: Size = None,
    protocol: ProtocolOption = ProtocolName.vharm,
    rounded: Rounded = False,
    metrics: MetricNames = None,
    temporal: o.TemporalOption = o.Temporal.smooth,
    report: ReportFolder = None,
    json: JsonFile = None,
    images: Images = 12,
    overwrite: Overwrite = False,
    device: o.Device = "cpu",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Compare methods on a data set: a table, and a report to look at.

    [bold]Examples[/bold]

    Photographs with masks, recoloured by LUTs:
      vharm eval --data pictures/ --recolour lut --luts luts/
          --method mkl,reinhard,histogram --size 256 --report out/

    A network against a classical method, video metrics as published:
      vharm eval --data HYouTube/ --split test --protocol co2net
          --method harmonizer:best.safetensors,mkl,mkl@lock --report out/
    """
    run(SimpleNamespace(**locals()))


def run(given: SimpleNamespace) -> None:
    """The command's work."""
    from ..evaluation import evaluate as measure
    from ..evaluation.report import check_report_folder, write_json, write_report
    from ..evaluation.table import notes, text_table
    from ..methods import default_name

    if not Path(given.data).exists():
        raise FileNotFoundError(f"--data: there is no {given.data}")
    if given.report is not None:
        check_report_folder(given.report, overwrite=given.overwrite)
    if given.json is not None:
        _check_file(Path(given.json), given.overwrite)
    samples = open_samples(given)
    methods = _listed(given.method) or [default_name()]
    if given.method is None and not given.quiet:
        typer.echo(f"vharm: method {methods[0]}, the default", err=True)
    with warnings.catch_warnings(), progress_bar(not given.quiet, unit="clips") as progress:
        warnings.showwarning = lambda text, *_: typer.echo(f"vharm: warning: {text}", err=True)
        result = measure(
            samples, methods, protocol=given.protocol.value, temporal=given.temporal.value,
            size=given.size, rounded=True if given.rounded else None, device=given.device,
            metrics=_listed(given.metrics),
            keep_images=given.images if given.report else 0, progress=progress, about=_about(given),
        )  # fmt: skip
    if given.report is not None:
        write_report(result, given.report, overwrite=given.overwrite)
    if given.json is not None:
        write_json(result, given.json)
    if given.quiet:
        return
    # A pipe has no width of its own; a table that is cut says less than a long line.
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(text_table(result))
    for line in notes(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for name, path in (("report", given.report and Path(given.report) / "report.html"),
                       ("json", given.json)):  # fmt: skip
        if path:
            typer.echo(f"  {name}  {path}")


def open_samples(given: SimpleNamespace) -> Any:
    """The data set the options name."""
    from ..data import open_data

    kind = _recolour(given)
    return open_data(
        given.data, split=given.split, recolour=None if kind is None else (kind,),
        luts=() if given.luts is None else open_luts(given.luts, given.luts_part.value),
        seed=given.seed, limit=given.limit, repeats=given.repeats, layout=given.layout,
        masks=given.masks, dancing=given.dancing,
        close_up=given.close_up,
        # Flow is exact where frames are made; resized afterwards it would not be quite.
        size=given.size if given.dancing else None,
    )  # fmt: skip


def open_luts(path: str, part: str) -> Any:
    """The tables of a folder or file."""
    from ..data.luts import load_luts

    try:
        return load_luts(path, part)
    except ValueError as error:
        raise ValueError(f"{error} (--luts-part {part})") from error


def _recolour(given: SimpleNamespace) -> str | None:
    if given.luts is not None and given.recolour is not Recolour.lut:
        raise ValueError("--luts: is for --recolour lut")
    if given.recolour in (None, Recolour.none):
        return None
    if given.recolour is Recolour.lut and given.luts is None:
        raise ValueError("--luts: is needed for --recolour lut: .cube files, or an .npz of tables")
    return given.recolour.value


def _about(given: SimpleNamespace) -> dict[str, Any]:
    """What is told of the data in reports."""
    about = {"path": given.data, "split": given.split, "recolour": _recolour(given),
             "luts": given.luts, "layout": given.layout, "masks": given.masks}  # fmt: skip
    about |= {"limit": given.limit, "dancing": given.dancing, "close_up": given.close_up}
    if given.repeats > 1:
        about["repeats"] = given.repeats
    if given.luts is not None:
        about["luts_part"] = given.luts_part.value
    about = {key: value for key, value in about.items() if value is not None}
    return {**about, "seed": given.seed} if "recolour" in about else about


def _listed(text: str | None) -> list[str] | None:
    if text is None:
        return None
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ValueError(f"method: expected names between commas, got {text!r}")
    return found


def _check_file(path: Path, overwrite: bool) -> None:
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise IsADirectoryError(f"--json: {path} is a folder, expected a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"--json: {path} exists already; -y overwrites it")
