# SPDX-License-Identifier: Apache-2.0
"""Whole evaluations of small sets in memory."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import vharm
from vharm.data.types import Scene
from vharm.evaluation import evaluate, fmse
from vharm.evaluation.entries import RAW, Entry, make_entries
from vharm.evaluation.harmonized import harmonized
from vharm.evaluation.protocol import CO2NET, choose_protocol
from vharm.evaluation.resize import resized
from vharm.looks import FilterLook
from vharm.methods import Method
from vharm.methods.pixel import PixelMethod

CPU = torch.device("cpu")


class Nothing(Method):
    name = "nothing"
    summary = when_to_use = source = "changes nothing"

    def estimate(self, frames, masks, *, background=None, background_weight=None):
        return [FilterLook.identity(("brightness",)) for _ in frames]


def rows(result, method):
    return [row for row in result.rows if row.method == method]


def test_the_composite_comes_first_and_the_identity_equals_it(sample_maker):
    data = [sample_maker(f"p{i}", seed=i) for i in range(3)]
    result = evaluate(data, [Nothing(), "mkl"])
    assert result.methods == ["composite", "nothing", "mkl"]
    for before, after in zip(rows(result, "composite"), rows(result, "nothing"), strict=True):
        assert after.scores == pytest.approx(before.scores, rel=1e-5)
    assert result.totals["mkl"]["fMSE"].mean != pytest.approx(
        result.totals["composite"]["fMSE"].mean, rel=1e-2
    )


@pytest.mark.parametrize("temporal", ["smooth", "per-frame", "lock"])
@pytest.mark.parametrize("rounded", [False, True])
def test_results_are_those_of_harmonize(sample_maker, temporal, rounded):
    sample = sample_maker("clip", 5)
    entry = make_entries("mkl", temporal, CPU)[1]
    found = harmonized(entry, [sample], CPU, rounded)[0][0]
    frames = sample.composite if rounded else sample.composite.float() / 255
    expected = vharm.harmonize(frames, sample.masks, "mkl", temporal=temporal, verbose=False)
    expected = expected.float() if rounded else expected * 255
    assert torch.equal(found, expected)
    assert not torch.equal(found, sample.composite.float())


def test_pictures_in_a_batch_are_those_of_harmonize(sample_maker):
    data = [sample_maker(f"p{i}", seed=i) for i in range(11)]
    entry = make_entries("mkl", "smooth", CPU)[1]
    for sample, found in zip(data, harmonized(entry, data, CPU, False)[0], strict=True):
        expected = vharm.harmonize(
            sample.composite.float() / 255, sample.masks, "mkl", verbose=False
        )
        torch.testing.assert_close(found, expected * 255, rtol=0, atol=1e-3)


def test_figures_are_means_over_frames(sample_maker):
    data = [sample_maker("a", 1, seed=1), sample_maker("b", 4, seed=2)]
    result = evaluate(data, [], metrics=["fmse"])
    values = torch.cat([
        fmse(s.composite.float(), s.target.float(), s.masks.float() / 255) for s in data
    ])  # fmt: skip
    figure = result.totals["composite"]["fMSE"]
    assert figure.mean == pytest.approx(values.mean().item())
    assert (figure.count, figure.clips) == (5, 2)
    assert result.metrics == ["fMSE"]


def test_empty_masks_are_left_out_and_counted(sample_maker):
    whole = sample_maker("a", 4)
    masks = whole.masks.clone()
    masks[1:3] = 0
    holed = dataclasses.replace(whole, masks=masks)
    kept = dataclasses.replace(
        whole, composite=whole.composite[::3], masks=masks[::3], target=whole.target[::3]
    )
    empty = dataclasses.replace(sample_maker("b"), masks=torch.zeros_like(sample_maker("b").masks))
    result = evaluate([holed, empty], ["mkl"], metrics=["MSE", "fMSE", "SSIM"])
    assert result.empty == 3
    assert rows(result, "composite")[0].empty == 2
    assert rows(result, "composite")[1].scores == {}
    alone = evaluate([kept], [], metrics=["MSE", "fMSE", "SSIM"])
    for name in ("MSE", "fMSE", "SSIM"):
        assert result.totals["composite"][name].mean == alone.totals["composite"][name].mean


def test_video_metrics_and_their_flow(sample_maker):
    pytest.importorskip("cv2")
    data = [
        sample_maker("exact", 4, size=(48, 48), flow=True),
        sample_maker("guess", 4, size=(48, 48)),
        sample_maker("real", 4, size=(48, 48), target=False),
    ]
    result = evaluate(data, ["mkl", "mkl@per-frame"])
    assert result.flow == {"exact": 1, "DIS (OpenCV) on the true frames": 1,
                           "DIS (OpenCV) on the composites": 1}  # fmt: skip
    exact, guess, real = rows(result, "mkl")
    assert "L_T1" in exact.scores
    assert "L_T2" not in exact.scores
    assert "L_T2" in guess.scores
    assert set(real.scores) == {"TL", "L_T2", "flicker", "drift"}
    assert rows(result, "composite")[0].scores["flicker"] == 0
    assert rows(result, "composite")[0].scores["TL"] == pytest.approx(
        rows(result, "composite")[1].scores["TL"], rel=0.2
    )


def test_an_exact_answer_has_no_psnr(sample_maker):
    sample = sample_maker("a")
    sample = dataclasses.replace(sample, composite=sample.target)
    result = evaluate([sample], [])
    assert result.exact == {"composite": 1}
    assert "PSNR" not in result.metrics
    assert result.totals["composite"]["MSE"].mean == 0


def test_co2net_resizes_and_counts_pixels_of_mask_one(sample_maker):
    sample = sample_maker("a", size=(60, 90), box=(7, 33, 11, 44))
    result = evaluate([sample], [], protocol="co2net", metrics=["MSE", "fMSE"])
    small = resized(sample, CO2NET)
    assert small.composite.shape == (1, 3, 256, 256)
    whole = ((small.composite.double() - small.target.double()) ** 2).mean().item()
    ones = (small.masks == 255).sum().item()
    scores = result.rows[0].scores
    assert scores["MSE"] == pytest.approx(whole)
    assert scores["fMSE"] == pytest.approx(whole * 256 * 256 / ones)
    assert ones < (small.masks > 0).sum().item()


def test_resizing_scales_the_flow(sample_maker):
    sample = sample_maker("a", 3, size=(40, 48), flow=True)
    small = resized(sample, choose_protocol("vharm", size=(20, 96)))
    assert small.composite.shape == (3, 3, 20, 96)
    assert torch.allclose(small.flow[:, 0], torch.full((2, 20, 96), 2.0))
    assert torch.allclose(small.flow[:, 1], torch.zeros(2, 20, 96))


def test_rounding_is_an_option(sample_maker):
    data = [sample_maker("a")]
    plain = evaluate(data, ["mkl"], metrics=["MSE"]).totals["mkl"]["MSE"].mean
    rounded = evaluate(data, ["mkl"], metrics=["MSE"], rounded=True).totals["mkl"]["MSE"].mean
    assert plain != rounded
    assert plain == pytest.approx(rounded, rel=0.02)


def test_labels(sample_maker, tmp_path):
    labels = [e.label for e in make_entries(["mkl", "mkl@lock", Nothing()], "smooth", CPU)]
    assert labels == ["composite", "mkl", "mkl@lock", "nothing"]
    named = make_entries({"full": vharm.methods.get("mkl", lightness=1)}, "lock", CPU)
    assert (named[1].label, named[1].temporal) == ("full", "lock")
    with pytest.raises(ValueError, match="given twice"):
        make_entries(["mkl", "mkl"], "smooth", CPU)
    with pytest.raises(ValueError, match="behind the @"):
        make_entries(["mkl@sometimes"], "smooth", CPU)
    with pytest.raises(ValueError, match="no method 'mlk'; did you mean 'mkl'"):
        make_entries(["mlk"], "smooth", CPU)
    with pytest.raises(ValueError, match="weights: the method 'mkl' uses none"):
        make_entries(["mkl:some.pth"], "smooth", CPU)


class Painter(PixelMethod):
    """Paints everything grey where it is told to look, and finds the left half."""

    name, summary, when_to_use, source = "painter", "", "", ""
    predicts_masks = True

    def __init__(self, finds: float = 1.0) -> None:
        super().__init__()
        self.finds = finds

    def working_size(self, height, width):
        return 20, 24

    def render(self, frames, masks):
        return frames + masks * (0.5 - frames)

    def predict_masks(self, frames):
        found = torch.zeros_like(frames[:, :1])
        found[..., : frames.shape[3] // 2] = self.finds
        return found


def test_raw_rows_score_what_the_network_paints(sample_maker):
    sample = sample_maker("a", 2)
    method = Painter()
    rows = [Entry(raw or "whole", method, "per-frame", raw=raw) for raw in ("", *RAW)]
    made = {row.label: harmonized(row, [sample], CPU, False)[0][0] for row in rows}
    outside = (sample.masks == 0).expand(-1, 3, -1, -1)
    assert torch.equal(made["whole"][outside], sample.composite[outside].float())
    assert not torch.equal(made["given"][outside], sample.composite[outside].float())
    assert (made["given"][:, :, 15:24, 16:28] - 127.5).abs().max() < 1e-3
    assert (made["predicted"][..., :20] - 127.5).abs().max() < 1e-3
    assert (made["one"] - 127.5).abs().max() < 1e-3
    assert (made["zero"] - sample.composite).abs().mean() < 10 < made["zero"].std()


def test_masks_can_be_left_to_the_method(sample_maker):
    sample = sample_maker("a")
    found = harmonized(Entry("a", Painter(), finds_masks=True), [sample], CPU, True)[0][0]
    changed = (found != sample.composite).any(1)
    assert changed[..., :20].float().mean() > 0.9
    assert not changed[..., 30:].any()
    same, _, notes = harmonized(
        Entry("a", Painter(0.0), finds_masks=True), [sample], CPU, True
    )  # fmt: skip
    assert torch.equal(same[0], sample.composite.float())
    assert notes == ["a finds nothing pasted in some of the clips, which stay as they were"]


def test_options_of_methods_in_their_names():
    entries = make_entries(["mkl+lightness=1.0", "mkl@lock"], "smooth", CPU)
    assert [e.label for e in entries[1:]] == ["mkl+lightness=1.0", "mkl@lock"]
    assert entries[1].method.lightness == 1
    entries = make_entries(["all of it=mkl+lightness=1.0", "mkl+lightness=1.0"], "smooth", CPU)
    assert [e.label for e in entries[1:]] == ["all of it", "mkl+lightness=1.0"]
    assert entries[1].method is entries[2].method
    with pytest.raises(ValueError, match="paints no picture"):
        make_entries(["mkl+raw=given"], "smooth", CPU)
    with pytest.raises(ValueError, match="expected raw to be one of given, zero, one, predicted"):
        make_entries(["mkl+raw=some"], "smooth", CPU)
    with pytest.raises(ValueError, match="cannot find masks"):
        make_entries(["mkl+masks=found"], "smooth", CPU)


def test_refusals(sample_maker):
    data = [sample_maker("a")]
    with pytest.raises(TypeError, match="expected a DataSet"):
        evaluate(iter(data), [])
    with pytest.raises(ValueError, match="at least one sample"):
        evaluate([], [])
    with pytest.raises(ValueError, match="stands twice"):
        evaluate(data * 2, [])
    with pytest.raises(ValueError, match="metrics: expected some of MSE"):
        evaluate(data, [], metrics=["LPIPS"])
    with pytest.raises(ValueError, match="protocol: expected one of vharm, co2net"):
        evaluate(data, [], protocol="paper")
    scene = Scene("a", data[0].target, data[0].masks)
    with pytest.raises(TypeError, match="recolour them first"):
        evaluate([scene], [])


def test_share_of_improved_clips(sample_maker):
    data = [sample_maker(f"p{i}", seed=i) for i in range(4)]
    result = evaluate(data, ["mkl", Nothing()], metrics=["fMSE"])
    composite = {r.clip: r.scores["fMSE"] for r in rows(result, "composite")}
    better = [r.scores["fMSE"] < composite[r.clip] for r in rows(result, "mkl")]
    assert result.improved["mkl"] == sum(better) / 4
    assert math.isclose(result.totals["mkl"]["fMSE"].count, 4)
