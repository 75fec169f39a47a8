"""Instance norm's CUDA kernels, in Triton: forward and backward, NCHW and channels_last, no copies.

A plane is read as pixels with one stride, so that both layouts, and any view whose rows follow each
other evenly, are addressed where they lie. A tile is (BLOCK_P pixels, BLOCK_C channels): in NCHW
one channel and a run of pixels, in channels_last a run of channels.

Small planes stay on chip: one kernel, one read, one write. Large ones are split into chunks over
many blocks: a first kernel leaves mean and M2 of each chunk, a second merges them, every block in
the same order, and normalises; no atomics, so every run gives the same bits. Within a chunk
each place of the tile keeps its own mean and M2 (Welford's); only the last step adds up over
threads. The second kernel goes from each chunk's end to its beginning: what the first one read last
is what the cache still holds. Traffic in planes:
forward 3 (x twice, y), backward 5 (x and the gradient twice, dx).

Means are of x minus the plane's first element. A constant plane is then exactly zero, and a plane
whose mean is large against its deviation keeps its digits.

Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances", 1979, for the merging.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _locate(program, chunks, channels, BLOCK_C: tl.constexpr):
    """Program number -> (chunk, instance, channels of the tile). Chunks of a plane lie together."""
    groups = tl.cdiv(channels, BLOCK_C)
    chunk = program % chunks
    group = (program // chunks) % groups
    n = program // (chunks * groups)
    c = group * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    return chunk, n.to(tl.int64), c


@triton.jit
def _planes(pointer, n, c, stride_n, stride_c):
    """Addresses of the first elements of the tile's planes, (1, BLOCK_C); 64-bit offsets."""
    return pointer + n * stride_n + c.to(tl.int64) * stride_c


@triton.jit
def _tile(planes, first, stride_p, BLOCK_P: tl.constexpr):
    """Addresses of BLOCK_P pixels from `first` on, (BLOCK_P, BLOCK_C).

    The tile's start takes 64 bits, its inside 32: launches keep BLOCK_P * stride_p below 2^31.
    """
    p = tl.arange(0, BLOCK_P)[:, None]
    return (planes + tl.cast(first, tl.int64) * stride_p) + p * stride_p


@triton.jit
def _valid(first, end, c, channels, BLOCK_P: tl.constexpr):
    return (first + tl.arange(0, BLOCK_P)[:, None] < end) & (c < channels)


@triton.jit
def _parameter(pointer, n, stride_n, c, channels, default, ACC: tl.constexpr):
    """Gamma or beta of the tile's channels, (1, BLOCK_C); `default` where there is none."""
    # Not a second return: the compiler would read it with a pointer that is None, and fail.
    if pointer is None:
        value = tl.full(c.shape, default, ACC)
    else:
        value = tl.load(pointer + n * stride_n + c, mask=c < channels, other=0.0).to(ACC)
    return value


@triton.jit
def _moments(d, valid, count):
    """Mean and M2 of a tile's columns by two passes over registers, (1, BLOCK_C) each."""
    mean = tl.sum(d, 0)[None, :] / count
    e = tl.where(valid, d - mean, 0.0)
    return mean, tl.sum(e * e, 0)[None, :]


@triton.jit
def affine(d, mean, rstd, gamma, beta):
    """The one expression of the affine part: backward's ReLU mask is forward's to the last bit.

    The fused multiply-add is written out, and the compiler is told to fuse nothing itself.
    """
    return tl.fma(d - mean, rstd * gamma, beta)


@triton.jit
def relu(y):
    """max(0, y); what is no number stays so, as in torch."""
    return tl.where(y < 0.0, 0.0, y)


@triton.jit
def _parts(
    first, n, c, channels, pixels, chunks, chunk_pixels, MERGED: tl.constexpr, ACC: tl.constexpr
):
    """Of the MERGED chunks from `first` on: which exist, where their results lie, their pixels."""
    k = first + tl.arange(0, MERGED)[:, None]
    valid = (k < chunks) & (c < channels)
    counts = tl.minimum(chunk_pixels, pixels - k * chunk_pixels).to(ACC)
    return valid, (n * chunks + k) * channels + c, tl.where(valid, counts, 0.0)


@triton.jit
def _merge(
    mean_parts, m2_parts, n, c, channels, pixels, chunks, chunk_pixels,
    MERGED: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Chan's formula over all chunks of the tile's planes: mean and M2, (1, BLOCK_C)."""
    sums = tl.zeros([MERGED, BLOCK_C], ACC)
    for first in range(0, chunks, MERGED):
        valid, offsets, counts = _parts(
            first, n, c, channels, pixels, chunks, chunk_pixels, MERGED, ACC
        )
        sums += tl.load(mean_parts + offsets, mask=valid, other=0.0) * counts
    mean = tl.sum(sums, 0)[None, :] / pixels
    m2s = tl.zeros([MERGED, BLOCK_C], ACC)
    for first in range(0, chunks, MERGED):
        valid, offsets, counts = _parts(
            first, n, c, channels, pixels, chunks, chunk_pixels, MERGED, ACC
        )
        e = tl.load(mean_parts + offsets, mask=valid, other=0.0) - mean
        m2s += tl.load(m2_parts + offsets, mask=valid, other=0.0) + counts * e * e
    return mean, tl.sum(m2s, 0)[None, :]


@triton.jit
def statistics_kernel(
    x, mean_parts, m2_parts,
    channels, pixels, x_n, x_c, x_p, chunks, chunk_pixels,
    ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Mean and M2 of one chunk: Welford's at each place of the tile, then Chan's over places."""
    chunk, n, c = _locate(tl.program_id(0), chunks, channels, BLOCK_C)
    planes = _planes(x, n, c, x_n, x_c)
    shift = tl.load(planes, mask=c < channels, other=0.0).to(ACC)
    begin = chunk * chunk_pixels
    end = tl.minimum(begin + chunk_pixels, pixels)
    mean = tl.zeros([BLOCK_P, BLOCK_C], ACC)
    m2 = tl.zeros([BLOCK_P, BLOCK_C], ACC)
    for first in range(begin, end, BLOCK_P):
        valid = _valid(first, end, c, channels, BLOCK_P)
        value = tl.load(_tile(planes, first, x_p, BLOCK_P), mask=valid, other=0.0).to(ACC)
        count = tl.cast((first - begin) // BLOCK_P + 1, ACC)
        d = value - shift
        delta = tl.where(valid, d - mean, 0.0)
        mean += delta * (1.0 / count)
        m2 += delta * (d - mean)
    place = tl.arange(0, BLOCK_P)[:, None]
    counts = tl.cast((end - begin - place + BLOCK_P - 1) // BLOCK_P, ACC)  # values at a place
    together = tl.sum(mean * counts, 0)[None, :] / tl.cast(end - begin, ACC)
    e = mean - together
    m2 = tl.sum(m2 + counts * e * e, 0)[None, :]
    offsets = (n * chunks + chunk) * channels + c
    tl.store(mean_parts + offsets, together, mask=c < channels)
    tl.store(m2_parts + offsets, m2, mask=c < channels)


@triton.jit
def merge_kernel(
    mean_parts, m2_parts, mean_out, rstd_out, channels, pixels, chunks, chunk_pixels,
    EPS: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, MERGED: tl.constexpr,
):  # fmt: skip
    """Mean and rstd of BLOCK_C planes, for a kernel whose blocks are too many to merge them each.

    Programs: (groups of channels, instances).
    """
    n = tl.program_id(1).to(tl.int64)
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    mean, m2 = _merge(
        mean_parts, m2_parts, n, c, channels, pixels, chunks, chunk_pixels, MERGED, BLOCK_C, ACC
    )
    tl.store(mean_out + n * channels + c, mean, mask=c < channels)
    tl.store(rstd_out + n * channels + c, 1.0 / tl.sqrt(m2 / pixels + EPS), mask=c < channels)


@triton.jit
def normalise_kernel(
    x, y, residual, gamma, beta, mean_parts, m2_parts, mean_out, rstd_out,
    channels, pixels, x_n, x_c, x_p, y_n, y_c, y_p, r_n, r_c, r_p, gamma_n, beta_n,
    chunks, chunk_pixels,
    EPS: tl.constexpr, RELU: tl.constexpr, ON_CHIP: tl.constexpr,
    ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, MERGED: tl.constexpr,
):  # fmt: skip
    """Normalise one chunk. ON_CHIP: the chunk is the plane and the tile, its statistics made here.

    EPS is compiled in: as an argument it would be rounded to float32.
    """
    chunk, n, c = _locate(tl.num_programs(0) - 1 - tl.program_id(0), chunks, channels, BLOCK_C)
    planes = _planes(x, n, c, x_n, x_c)
    shift = tl.load(planes, mask=c < channels, other=0.0).to(ACC)
    begin = chunk * chunk_pixels
    end = tl.minimum(begin + chunk_pixels, pixels)
    if ON_CHIP:
        valid = _valid(begin, end, c, channels, BLOCK_P)
        value = tl.load(_tile(planes, begin, x_p, BLOCK_P), mask=valid, other=0.0).to(ACC)
        d = tl.where(valid, value - shift, 0.0)
        mean, m2 = _moments(d, valid, pixels)
    else:
        mean, m2 = _merge(
            mean_parts, m2_parts, n, c, channels, pixels, chunks, chunk_pixels,
            MERGED, BLOCK_C, ACC,
        )  # fmt: skip
    rstd = 1.0 / tl.sqrt(m2 / pixels + EPS)
    if chunk == 0:
        tl.store(mean_out + n * channels + c, mean, mask=c < channels)
        tl.store(rstd_out + n * channels + c, rstd, mask=c < channels)
    g = _parameter(gamma, n, gamma_n, c, channels, 1.0, ACC)
    b = _parameter(beta, n, beta_n, c, channels, 0.0, ACC)
    out = _planes(y, n, c, y_n, y_c)
    tiles = tl.cdiv(end - begin, BLOCK_P)
    for tile in range(0, tiles):
        first = begin + (tiles - 1 - tile) * BLOCK_P
        if not ON_CHIP:
            valid = _valid(first, end, c, channels, BLOCK_P)
            value = tl.load(_tile(planes, first, x_p, BLOCK_P), mask=valid, other=0.0).to(ACC)
            d = value - shift
        result = affine(d, mean, rstd, g, b)
        if RELU:
            result = relu(result)
        if residual is not None:
            extra = _tile(_planes(residual, n, c, r_n, r_c), first, r_p, BLOCK_P)
            result += tl.load(extra, mask=valid, other=0.0).to(ACC)
        tl.store(_tile(out, first, y_p, BLOCK_P), result, mask=valid)


@triton.jit
def saved(
    planes, mean_in, rstd_in, gamma, beta, n, c, channels, gamma_n, beta_n, ACC: tl.constexpr
):
    """What forward left of the tile's planes: shift, mean, rstd, gamma, beta, (1, BLOCK_C) each."""
    valid = c < channels
    shift = tl.load(planes, mask=valid, other=0.0).to(ACC)
    mean = tl.load(mean_in + n * channels + c, mask=valid, other=0.0)
    rstd = tl.load(rstd_in + n * channels + c, mask=valid, other=0.0)
    g = _parameter(gamma, n, gamma_n, c, channels, 1.0, ACC)
    b = _parameter(beta, n, beta_n, c, channels, 0.0, ACC)
    return shift, mean, rstd, g, b


@triton.jit
def _gradient_tile(
    planes, grads, first, end, c, channels, x_p, g_p, shift, mean, rstd, g, b,
    RELU: tl.constexpr, ACC: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The gradient behind the ReLU and the normalised values of one tile, 0 where not valid."""
    valid = _valid(first, end, c, channels, BLOCK_P)
    d = tl.load(_tile(planes, first, x_p, BLOCK_P), mask=valid, other=0.0).to(ACC) - shift
    grad = tl.load(_tile(grads, first, g_p, BLOCK_P), mask=valid, other=0.0).to(ACC)
    if RELU:
        grad = tl.where(affine(d, mean, rstd, g, b) > 0.0, grad, 0.0)
    normalised = tl.where(valid, (d - mean) * rstd, 0.0)
    return valid, grad, normalised


@triton.jit
def gradient_sums_kernel(
    x, grad, gamma, beta, mean_in, rstd_in, sum_parts, dot_parts,
    channels, pixels, x_n, x_c, x_p, g_n, g_c, g_p, gamma_n, beta_n, chunks, chunk_pixels,
    RELU: tl.constexpr, ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums of the gradient, and of the gradient times the normalised value, over one chunk."""
    chunk, n, c = _locate(tl.program_id(0), chunks, channels, BLOCK_C)
    planes, grads = _planes(x, n, c, x_n, x_c), _planes(grad, n, c, g_n, g_c)
    shift, mean, rstd, g, b = saved(
        planes, mean_in, rstd_in, gamma, beta, n, c, channels, gamma_n, beta_n, ACC
    )
    begin = chunk * chunk_pixels
    end = tl.minimum(begin + chunk_pixels, pixels)
    totals = tl.zeros([BLOCK_P, BLOCK_C], ACC)
    dots = tl.zeros([BLOCK_P, BLOCK_C], ACC)
    for first in range(begin, end, BLOCK_P):
        _, dy, normalised = _gradient_tile(
            planes, grads, first, end, c, channels, x_p, g_p, shift, mean, rstd, g, b,
            RELU, ACC, BLOCK_P,
        )  # fmt: skip
        totals += dy
        dots += dy * normalised
    total = tl.sum(totals, 0)[None, :]
    dot = tl.sum(dots, 0)[None, :]
    offsets = (n * chunks + chunk) * channels + c
    tl.store(sum_parts + offsets, total, mask=c < channels)
    tl.store(dot_parts + offsets, dot, mask=c < channels)


@triton.jit
def _sum_parts(
    parts, n, c, channels, chunks,
    MERGED: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    sums = tl.zeros([MERGED, BLOCK_C], ACC)
    for first in range(0, chunks, MERGED):
        k = first + tl.arange(0, MERGED)[:, None]
        valid = (k < chunks) & (c < channels)
        sums += tl.load(parts + (n * chunks + k) * channels + c, mask=valid, other=0.0)
    return tl.sum(sums, 0)[None, :]


@triton.jit
def gradient_kernel(
    x, grad, dx, gamma, beta, mean_in, rstd_in, sum_parts, dot_parts, sum_out, dot_out,
    channels, pixels, x_n, x_c, x_p, g_n, g_c, g_p, dx_n, dx_c, dx_p, gamma_n, beta_n,
    chunks, chunk_pixels,
    RELU: tl.constexpr, ON_CHIP: tl.constexpr,
    ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, MERGED: tl.constexpr,
):  # fmt: skip
    """Make dx of one chunk, and the two sums of its planes; ON_CHIP as in `normalise_kernel`."""
    chunk, n, c = _locate(tl.num_programs(0) - 1 - tl.program_id(0), chunks, channels, BLOCK_C)
    planes, grads = _planes(x, n, c, x_n, x_c), _planes(grad, n, c, g_n, g_c)
    shift, mean, rstd, g, b = saved(
        planes, mean_in, rstd_in, gamma, beta, n, c, channels, gamma_n, beta_n, ACC
    )
    begin = chunk * chunk_pixels
    end = tl.minimum(begin + chunk_pixels, pixels)
    if ON_CHIP:
        valid, dy, normalised = _gradient_tile(
            planes, grads, begin, end, c, channels, x_p, g_p, shift, mean, rstd, g, b,
            RELU, ACC, BLOCK_P,
        )  # fmt: skip
        total = tl.sum(dy, 0)[None, :]
        dot = tl.sum(dy * normalised, 0)[None, :]
    else:
        total = _sum_parts(sum_parts, n, c, channels, chunks, MERGED, BLOCK_C, ACC)
        dot = _sum_parts(dot_parts, n, c, channels, chunks, MERGED, BLOCK_C, ACC)
    if chunk == 0:
        tl.store(sum_out + n * channels + c, total, mask=c < channels)
        tl.store(dot_out + n * channels + c, dot, mask=c < channels)
    out = _planes(dx, n, c, dx_n, dx_c)
    tiles = tl.cdiv(end - begin, BLOCK_P)
    for tile in range(0, tiles):
        first = begin + (tiles - 1 - tile) * BLOCK_P
        if not ON_CHIP:
            valid, dy, normalised = _gradient_tile(
                planes, grads, first, end, c, channels, x_p, g_p, shift, mean, rstd, g, b,
                RELU, ACC, BLOCK_P,
            )  # fmt: skip
        result = rstd * g * (dy - total / pixels - normalised * (dot / pixels))
        tl.store(_tile(out, first, dx_p, BLOCK_P), result, mask=valid)
