"""The losses against their formulas written the long way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stylize.losses import (
    PerceptualLoss,
    content_loss,
    covariance_matrix,
    detail_weight,
    gram_matrix,
    style_loss,
    style_targets,
)
from stylize.networks.perceptual import load_perceptual
from stylize.palette import foreign_colours, palette_of
from stylize.prices import unasked_colours


def test_gram_matrix_is_the_mean_of_outer_products() -> None:
    features = torch.randn(2, 3, 4, 5)
    gram = gram_matrix(features)
    expected = torch.zeros(2, 3, 3)
    for y in range(4):
        for x in range(5):
            pixel = features[:, :, y, x]
            expected += pixel[:, :, None] * pixel[:, None, :] / 20
    torch.testing.assert_close(gram, expected)


def test_gram_matrix_is_float32_under_autocast() -> None:
    features = torch.full((1, 1, 300, 300), 1.0078125)  # exact in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        gram = gram_matrix(features.bfloat16())
    assert gram.dtype == torch.float32
    # A plain float32 sum of 90,000 equal terms errs by up to 90,000 / 2 ulps in theory and by 1e-4
    # in fact; bfloat16 would have rounded the square itself by 2e-3.
    assert gram.item() == pytest.approx(1.0078125**2, rel=3e-4)


def test_normalised_units_do_not_depend_on_scale() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(content_loss(a, b), content_loss(100 * a, 100 * b))
    torch.testing.assert_close(content_loss(torch.zeros_like(b), b), torch.tensor(1.0))
    gram, target = gram_matrix(a), gram_matrix(b)[0]
    torch.testing.assert_close(style_loss(gram, target), style_loss(100 * gram, 100 * target))
    torch.testing.assert_close(style_loss(torch.zeros_like(gram), target), torch.tensor(1.0))


def test_a_content_loss_counts_places_by_their_weight() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(
        content_loss(a, b, weight=torch.ones(2, 1, 4, 6)), content_loss(a, b)
    )
    left = torch.cat([torch.full((2, 1, 4, 3), 2.0), torch.zeros(2, 1, 4, 3)], -1)
    right = torch.cat([b[..., :3], a[..., 3:]], -1)  # wrong only where nothing is counted
    assert content_loss(right, b, weight=left).item() == 0.0
    wrong = torch.cat([a[..., :3], b[..., 3:]], -1)
    torch.testing.assert_close(content_loss(wrong, b, weight=left), 2 * content_loss(wrong, b))


@given(focus=st.floats(0, 1), side=st.integers(1, 40), seed=st.integers(0, 9))
def test_detail_weights_have_a_mean_of_one(focus: float, side: int, seed: int) -> None:
    torch.manual_seed(seed)
    photo = torch.rand(2, 3, side, 33)
    photo[1] = 0.5  # flat throughout: all places alike, whatever the focus
    size = (-(-side // 4), 9)
    weight = detail_weight(photo, focus, size)
    assert weight.shape == (2, 1, *size)
    assert weight.min() >= 0
    # Sums of up to 90 numbers in float32.
    torch.testing.assert_close(weight.mean((2, 3)), torch.ones(2, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(weight[1], torch.ones_like(weight[1]), atol=1e-5, rtol=0)


def test_with_a_focus_detail_counts_more_than_sky(small_perceptual: Path) -> None:
    torch.manual_seed(0)
    network = load_perceptual(str(small_perceptual))
    targets = style_targets(network, torch.rand(1, 3, 40, 40), ["relu1_2"])
    photo = torch.full((1, 3, 64, 128), 0.5)
    photo[..., 64:] += 0.2 * torch.randn(1, 3, 64, 64)
    noise = 0.1 * torch.randn(1, 3, 64, 40)
    spoilt = []
    for start in (12, 76):  # the flat half, the detailed half
        picture = photo.clone()
        picture[..., start : start + 40] += noise
        spoilt.append(picture)

    def costs(focus: float) -> list[float]:
        loss = PerceptualLoss(network, targets, ["relu1_1"], gamut_weight=0, content_focus=focus)
        return [loss(picture, photo).content.item() for picture in spoilt]

    alike, focused = costs(0.0), costs(0.9)
    # The detailed half has squared differences of 0.16, so it counts 1 - 0.9 / (1 + 0.16 / 3e-3) =
    # 0.983, and with it 4 columns of the flat half, whose windows reach it; the others count 0.1:
    # a mean of (68 * 0.983 + 60 * 0.1) / 128 = 0.569. Noise differs by a few parts in a hundred.
    assert focused[0] == pytest.approx(0.1 / 0.569 * alike[0], rel=0.05)
    assert focused[1] == pytest.approx(0.983 / 0.569 * alike[1], rel=0.05)


def test_paper_units_are_johnsons_formulas() -> None:
    torch.manual_seed(0)
    features, target = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    expected = (features - target).pow(2).sum() / (3 * 8 * 8)
    torch.testing.assert_close(content_loss(features, target, "paper"), expected)
    # Johnson et al. divide their Gram matrices by C * H * W.
    grams = [torch.einsum("chw,dhw->cd", f[0], f[0]) / (3 * 8 * 8) for f in (features, target)]
    torch.testing.assert_close(
        style_loss(gram_matrix(features), gram_matrix(target)[0], "paper"),
        (grams[0] - grams[1]).pow(2).sum(),
    )


def test_a_covariance_matrix_is_what_means_leave_of_a_gram_matrix() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, 6, 7) + torch.tensor([0.0, 1.0, 5.0])[:, None, None]
    found = covariance_matrix(features)
    assert torch.equal(found, covariance_matrix(features, gram_matrix(features)))
    for picture, flat in zip(found, features.flatten(2), strict=True):
        # It is left of a product of up to 26, in float32: 26 * 2^-23 * a few sums.
        torch.testing.assert_close(picture, torch.cov(flat, correction=0), atol=2e-5, rtol=0)


def test_a_covariance_matrix_is_float32_under_autocast() -> None:
    # Ones, and in one pixel of four 1 + 2^-5: means of 1 + 2^-7 and a variance of 3/16 * 2^-10,
    # small beside bfloat16's rounding of the mean's square, 2^-9 of it.
    features = torch.ones(1, 1, 2, 2)
    features[0, 0, 0, 0] += 2**-5
    with torch.autocast("cpu", torch.bfloat16):
        found = covariance_matrix(features.bfloat16())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(3 / 16 * 2**-10, abs=1e-6)


def test_gram_matrices_see_little_of_a_brush_and_covariances_all() -> None:
    torch.manual_seed(0)
    painting = 3 + torch.randn(1, 4, 64, 64)
    flat = painting.mean((2, 3), keepdim=True).expand_as(painting)  # its colours, none of its brush
    missed = style_loss(covariance_matrix(flat), covariance_matrix(painting)[0])
    assert missed.item() == pytest.approx(1.0, rel=1e-3)
    # Unit variances beside products of means of 9: 4 * 1 / (4 * 10^2 + 12 * 9^2) = 0.003.
    seen = style_loss(gram_matrix(flat), gram_matrix(painting)[0])
    assert seen.item() == pytest.approx(4 / (4 * 10**2 + 12 * 9**2), rel=0.1)


def test_a_tint_is_dear_where_it_lasts_not_where_it_comes_and_goes(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    targets = style_targets(network, torch.rand(1, 3, 40, 40), ["relu1_2"])
    photo = torch.full((1, 3, 128, 128), 0.5)

    def cost(*tints: float) -> tuple[float, float]:
        """Price of a picture with the first tint after many with all in turn, and its slope."""
        loss, plain = (
            PerceptualLoss(network, targets, ["relu2_2"], edge_weight=weight) for weight in (2, 0)
        )
        for step in range(101):
            picture = photo.clone()
            picture[:, 0, :48] += tints[step % len(tints)]
            picture.requires_grad_()
            terms = loss(picture, photo)
            if step < 100:
                loss.remember(terms.tint)
        price = terms.total - plain(picture, photo).total
        price.backward()
        assert picture.grad is not None
        return price.item(), picture.grad[:, 0, :48].sum().item()

    # The upper edge, red alone: 2 * 0.2^2 / 3, and its derivative by the tint, shared by the rows.
    # Of the mean 0.9^100 = 3e-5 is not there yet; the losses' rounding is 1e-6 of their size.
    price, slope = cost(0.2)
    assert price == pytest.approx(2 * 0.2**2 / 3, rel=1e-3)
    assert slope == pytest.approx(2 * 2 * 0.2 / 3, rel=1e-3)
    # By turns, the mean swings by (1 - 0.9) / (1 + 0.9) of the tint: the price is its square.
    price, _ = cost(0.2, -0.2)
    assert price == pytest.approx(2 * (0.2 / 19) ** 2 / 3, rel=0.05)


def test_the_losses_see_what_a_file_can_hold(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    targets = style_targets(network, torch.rand(1, 3, 40, 40), ["relu1_2"])
    loss = PerceptualLoss(network, targets, ["relu2_2"], gamut_weight=2.0)
    photo = torch.rand(1, 3, 16, 16)
    garish = (3 * photo - 1).requires_grad_()
    terms, clamped = loss(garish, photo), loss(garish.clamp(0, 1), photo)
    assert terms.style.item() == clamped.style.item()
    assert terms.content.item() == clamped.content.item()
    excess = (garish - garish.clamp(0, 1)).square().mean()
    torch.testing.assert_close(terms.regularisation - clamped.regularisation, 2 * excess)
    terms.total.backward()
    assert garish.grad is not None
    outside = (garish < 0) | (garish > 1)
    # What left 0..1 is called back: downhill is towards it.
    assert torch.all(garish.grad[outside] * (garish - 0.5)[outside] > 0)


def test_without_a_price_for_leaving_it_the_losses_see_beyond_0_to_1(
    small_perceptual: Path,
) -> None:
    network = load_perceptual(str(small_perceptual))
    targets = style_targets(network, torch.rand(1, 3, 40, 40), ["relu1_2"])
    loss = PerceptualLoss(network, targets, ["relu2_2"], gamut_weight=0.0)
    photo = torch.rand(1, 3, 16, 16)
    garish = (3 * photo - 1).requires_grad_()
    terms = loss(garish, photo)
    assert terms.content.item() > loss(garish.clamp(0, 1), photo).content.item()
    terms.total.backward()
    assert garish.grad is not None
    # Clamped they would have no gradient there, and a pixel that left would never come back.
    assert garish.grad[(garish < 0) | (garish > 1)].abs().min() > 0


def test_a_shift_hides_rows_and_columns_from_the_loss_network(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    targets = style_targets(network, torch.rand(1, 3, 40, 40), ["relu1_2"])
    loss = PerceptualLoss(network, targets, ["relu2_2"])
    photo, restyled = torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 20)
    shifted = loss(restyled, photo, torch.tensor([3, 1]))
    rows, columns = slice(3, 13 + 3), slice(1, 13 + 1)  # 20 - (MAX_SHIFT - 1) are seen
    cropped = loss(
        *(
            # As it is seen: in other strides, convolutions round in another order.
            picture[..., rows, columns].contiguous(memory_format=torch.channels_last)
            for picture in (restyled, photo)
        )
    )
    assert shifted.total.item() == cropped.total.item()


def test_the_painting_itself_has_no_style_loss(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    painting = torch.rand(1, 3, 40, 40)
    layers = ["relu1_2", "relu2_2"]
    targets = style_targets(network, painting, layers)
    covariances = style_targets(network, painting, layers, covariance_matrix)
    loss = PerceptualLoss(
        network, targets, ["relu3_1"], covariances=covariances, covariance_weight=2.0
    )
    terms = loss(painting, painting)
    assert terms.style.item() == 0.0
    assert terms.content.item() == 0.0
    assert terms.total.item() == 0.0


def test_patches_have_their_price(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    targets = style_targets(network, torch.rand(1, 3, 40, 40), ["relu1_2"])
    photo, restyled = torch.rand(2, 1, 3, 48, 48)
    terms = PerceptualLoss(network, targets, ["relu2_2"], patch_weight=3.0)(restyled, photo)
    patches = unasked_colours(restyled, photo)
    assert patches > 0
    torch.testing.assert_close(terms.regularisation, 3 * patches)


def test_foreign_colours_have_their_price(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    painting = 0.5 * torch.rand(1, 3, 40, 40)
    targets = style_targets(network, painting, ["relu1_2"])
    photo, restyled = torch.rand(2, 1, 3, 48, 48)
    loss = PerceptualLoss(
        network, targets, ["relu2_2"], palette=palette_of(painting), palette_weight=3.0
    )
    foreign = foreign_colours(restyled, palette_of(painting))
    assert foreign > 0
    torch.testing.assert_close(loss(restyled, photo).regularisation, 3 * foreign)


def test_weights_and_gradients_reach_every_term(small_perceptual: Path) -> None:
    torch.manual_seed(0)
    network = load_perceptual(str(small_perceptual))
    painting = torch.rand(1, 3, 40, 40)
    targets = style_targets(network, painting, ["relu1_2"])
    covariances = style_targets(network, painting, ["relu1_2"], covariance_matrix)
    photo = torch.rand(1, 3, 16, 16)
    restyled = torch.rand(1, 3, 16, 16, requires_grad=True)
    plain, double = (
        PerceptualLoss(network, targets, ["relu2_2"], *weights, tv_weight=weights[0])(
            restyled, photo
        )
        for weights in ((1.0, 1.0), (2.0, 2.0))
    )
    brush = PerceptualLoss(
        network, targets, ["relu2_2"], covariances=covariances, covariance_weight=3.0
    )(restyled, photo)
    restyled_features = network(restyled, ["relu1_2"])["relu1_2"]
    missed = style_loss(covariance_matrix(restyled_features), covariances["relu1_2"])
    torch.testing.assert_close(brush.style, plain.style + 3 * missed)
    torch.testing.assert_close(double.total, 2 * plain.total)
    plain.total.backward()
    assert restyled.grad is not None
    assert restyled.grad.abs().max() > 0
