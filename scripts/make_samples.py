"""Make the bundled sample pictures in ``samples/``.

``summer-palace.jpg`` is a photograph that scikit-learn ships (same pixels). The other four are
**computer renderings**, not photographs: a brick wall without damage (``sound-masonry.jpg``), the
very same wall with a stepped crack (``cracked-masonry.jpg``), a rendered wall with a settlement
crack (``cracked-plaster.jpg``), and a lime-plastered wall that lost part of its plaster
(``spalled-plaster.jpg``). Each is a height map and a colour map built from
fractal noise, lit from the upper left with cast shadows and ambient occlusion, and then put
through a simple camera (perspective, vignetting, softness, sensor noise, tone curve). No picture
is used as a texture. Everything is seeded: a second run gives the same pixels.
Run it from the repository root: ``python scripts/make_samples.py [output folder]``.
"""

import sys
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.spatial import cKDTree
from sklearn import datasets

H, W = 1320, 1760  # the rendered wall; the camera sees most of it
OUT_H, OUT_W = 1080, 1440
COURSE, STRETCHER, JOINT = 96, 288, 15  # pixels, about 1.25 to the millimetre
Y, X = np.mgrid[0:H, 0:W].astype(np.float32)


def linear(*srgb):
    """Linear-light colour of an sRGB triple (or colours of several) given as 0 to 255."""
    c = np.asarray(srgb, np.float32) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


def noise(rng, coarse, fine=2.0, slope=1.0, stretch=(1.0, 1.0)):
    """Fractal noise, mean 0 and deviation 1, of wavelengths from ``coarse`` down to ``fine``."""
    fy = np.fft.fftfreq(H)[:, None] * stretch[0]
    fx = np.fft.rfftfreq(W)[None] * stretch[1]
    f = np.hypot(fy, fx) + 1e-9
    gain = f ** -(slope + 0.5) / (1 + (1 / (f * coarse)) ** 4) / (1 + (f * fine) ** 4)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((H, W))) * gain, (H, W))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def blur(a, sigma):
    """Gaussian blur."""
    return cv2.GaussianBlur(a, (0, 0), sigma)


def step(a, lo, hi):
    """Smooth step from 0 at ``lo`` to 1 at ``hi``."""
    t = np.clip((a - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, t):
    """Blend two colour maps (or single colours) by a mask."""
    return a + (b - a) * t[..., None]


def sample(a, x, y):
    """Values of ``a`` at the given coordinates."""
    a, x, y = (np.asarray(m, np.float32) for m in (a, x, y))
    return cv2.remap(a, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


# Height (pixels), linear colour, where it is brick, and the coordinates in the bond of the bricks.
Wall = namedtuple("Wall", "height colour brick u v")
BRICKS = linear(
    (150, 98, 78), (158, 104, 82), (138, 86, 72), (122, 82, 74), (168, 120, 94),
    (146, 100, 82), (154, 94, 74), (112, 82, 76), (174, 132, 106), (140, 92, 76),
)  # fmt: skip


def brick_wall(seed, rough=1.0, soot=1.0, bricks=BRICKS):
    """A weathered wall of hand-made bricks in English bond, in lime mortar."""
    rng = np.random.default_rng(seed)
    u = X + 5 * noise(rng, 500, 60) + 1.5 * rough * noise(rng, 70, 9)
    v = Y + 4 * noise(rng, 700, 90) + 1.5 * rough * noise(rng, 70, 9)
    edge, grain, lumps = (noise(rng, *p) for p in ((45, 3, 0.95), (10, 1.5, 0.3), (70, 4, 1.0)))
    crease, clouds = noise(rng, 90, 3, 0.95, (0.55, 1.3)), noise(rng, 260, 8, 0.8)
    pits, speckle = noise(rng, 14, 3, 0.5), np.exp(0.1 * crease + 0.07 * grain + 0.06 * lumps)
    sd, body, colour = np.full((H, W), -99.0), np.zeros((H, W)), np.zeros((H, W, 3), np.float32)
    for row in range(-1, H // COURSE + 2):
        length = STRETCHER if row % 2 else STRETCHER // 2
        for k in range(-1, W // length + 2):
            cx, cy = (k + (0.5 if row % 2 else 1)) * length, (row + 0.5) * COURSE
            ys = slice(*np.clip((cy - 70, cy + 70), 0, H).astype(int))
            xs = slice(*np.clip((cx - length / 2 - 22, cx + length / 2 + 22), 0, W).astype(int))
            r = np.random.default_rng([seed, row + 9, k + 9])
            h, w = ys.stop - ys.start, xs.stop - xs.start
            oy, ox = r.integers(0, H - h), r.integers(0, W - w)
            here = (slice(oy, oy + h), slice(ox, ox + w))  # another cut of the noise per brick
            px, py = u[ys, xs] - cx - r.normal(0, 1.5), v[ys, xs] - cy - r.normal(0, 1.2)
            turn, worn = r.normal(0, 0.008) * rough, r.gamma(2.0, 0.8) * rough
            px, py = px + turn * py, py - turn * px
            hx = (length - JOINT) / 2 + r.normal(0, 2.0) + py * r.normal(0, 0.02)
            hy = (COURSE - JOINT) / 2 + r.normal(0, 1.6) + px * r.normal(0, 0.008)
            corner, rougher = r.uniform(5, 14) * rough, r.uniform(0.12, 0.36)
            qx, qy = np.abs(px) - hx + corner, np.abs(py) - hy + corner
            outside, within = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)), np.maximum(qx, qy)
            d = corner - outside - np.minimum(within, 0)
            d += 1.3 * edge[here] - worn * 3.2 * np.maximum(lumps[here] - 0.9, 0)
            mine = d > sd[ys, xs]
            face = r.normal(0, 1.6) + px * r.normal(0, 0.008) + py * r.normal(0, 0.02)
            face = face + 0.9 * crease[here] + 0.6 * lumps[here] + rougher * grain[here]
            face -= r.uniform(0.6, 2.4) * np.maximum(pits[here] - r.uniform(1.2, 1.9), 0)
            face -= r.uniform(0, 5) * step(crease[here], 1.5, 2.1) * (r.random() < 0.5)
            a, b = bricks[r.choice(len(bricks), 2, replace=False)]
            t = step(clouds[here] + r.normal(0, 0.8), -0.6, 1.6)
            tint = mix(a, b, t * 0.85) * speckle[here][..., None] * r.lognormal(0, 0.14)
            tint = mix(tint, linear(78, 62, 60), 0.6 * step(pits[here], 1.5, 2.3))  # cinders
            tint = mix(tint, linear(196, 170, 146), 0.5 * step(-pits[here], 1.9, 2.5))  # flints
            if r.random() < 0.3:  # the dark "kiss mark" of the kiln
                side = px * r.choice([-1, 1]) / hx + 0.25 * clouds[here]
                tint = mix(tint, linear(74, 58, 58), 0.55 * step(side, r.uniform(-0.2, 0.6), 1.1))
            for field, value in ((sd, d), (body, face), (colour, tint)):
                field[ys, xs][mine] = value[mine]
    stone = body + 11 - 12 * np.exp(-np.maximum(sd + 1.5, 0) / 3.2) + np.minimum(sd + 1.5, 0) * 6
    # Mortar: set back, lumpy, sandy; here and there smeared over the brick, elsewhere washed out.
    sand, washed = noise(rng, 7, 1.5, 0.1), noise(rng, 220, 20, 0.7)
    mortar = 4.0 + 1.3 * lumps + 0.42 * sand + 0.7 * edge
    mortar += 3.0 * np.maximum(washed - 0.6, 0) - 3.6 * rough * np.maximum(-washed - 0.5, 0)
    mortar -= 2.5 * np.maximum(noise(rng, 24, 4, 0.5) - 1.4, 0)
    brick = step(stone - mortar + 0.35 * sand, -0.8, 1.0)
    lime = mix(linear(186, 174, 154), linear(158, 144, 124), step(noise(rng, 180, 6, 0.7), -1, 1.5))
    lime *= np.exp(0.10 * sand + 0.08 * lumps)[..., None]
    lime = mix(lime, linear(112, 98, 84), 0.7 * step(sand, 1.5, 2.4))  # grit
    colour = mix(lime, colour, brick)
    height = np.maximum(stone, mortar) + np.exp(-np.abs(stone - mortar) / 0.8) * 0.4
    # A century of weather: lime haze, soot in patches and under the joints, a little green.
    haze = step(noise(rng, 300, 4, 0.75), 0.2, 2.2) * step(grain + 0.5 * pits, -1.2, 1.0)
    colour = mix(colour, linear(196, 184, 168), 0.42 * haze)
    grime = step(noise(rng, 420, 5, 0.8, (1.2, 0.6)) + 0.25 * grain, 0.1, 2.4)
    hollow = step(blur(height, 9) - height, 0, 9)
    colour = mix(colour, linear(56, 49, 44), soot * (0.12 + 0.48 * np.maximum(grime, hollow)))
    green = step(noise(rng, 350, 4, 0.8) + 0.5 * (Y / H - 0.7), 1.0, 2.6) * (1 - 0.6 * brick)
    colour = mix(colour, linear(84, 86, 60), 0.45 * green)
    return Wall(height, colour, brick, u, v)


def crack_line(rng, x_top, x_bottom):
    """Path of a stepped crack down the English bond, as points in bond coordinates."""
    points, x = [(float(x_top), -40.0)], float(x_top)
    for row in range(H // COURSE + 1):
        wanted = x_top + (x_bottom - x_top) * (row + 0.5) * COURSE / H + rng.normal(0, 28)
        length, offset = (STRETCHER, 0) if row % 2 else (STRETCHER // 2, STRETCHER // 4)
        perp = round((wanted - offset) / length) * length + offset
        through = abs(perp - wanted) > 80  # no joint near: it breaks the brick
        new = wanted if through else perp
        bed = row * COURSE + rng.choice([-1, 1]) * (JOINT / 2 - 2)
        points += [(x, bed), (new, bed + rng.normal(0, 1.5))]
        if through:
            points += [(new + rng.normal(0, 9), bed + COURSE * t) for t in (0.3, 0.55, 0.8)]
        x = float(new)
    return np.array([*points, (x, H + 40.0)])


def distance_to(lines):
    """Distance in pixels of every point of the canvas to the nearest of some poly-lines."""
    canvas = np.full((H, W), 255, np.uint8)
    cv2.polylines(canvas, [np.round(line).astype(np.int32) for line in lines], False, 0, 1)
    return cv2.distanceTransform(canvas, cv2.DIST_L2, 5)


def crack(wall, seed):
    """The same wall, cracked: a stepped crack with opened, displaced edges and lost mortar.

    And where that shows, its branches too: (H, W) from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    line = crack_line(rng, 1180, 470)
    branches = []
    for start in rng.choice(np.arange(4, len(line) - 6), 8, replace=False):
        at, way = line[start], rng.choice([-1, 1])
        steps = np.cumsum(np.abs(rng.normal(16, 8, (14, 2))), 0)[: rng.integers(5, 14)]
        branches.append(np.vstack([at, at + steps * (way, 0.5) + rng.normal(0, 5, steps.shape)]))
    wx, wy = (c + 2.2 * noise(rng, 50, 3, 0.7) for c in (wall.u, wall.v))
    dist, thin = (sample(distance_to(s), wx, wy) for s in ([line], branches))
    # The part to the right of the crack has sunk, moved away and stands a little proud.
    outline = np.vstack([line, (W + 99, H + 40), (W + 99, -40)]).astype(np.int32)
    moved = sample(cv2.fillPoly(np.zeros((H, W), np.float32), [outline], 1), wx, wy)
    taper = 1.0 - 0.62 * Y / H
    sx, sy = X - 9 * taper * moved, Y - 6 * taper * moved
    height = sample(wall.height, sx, sy) + 4.0 * taper * blur(moved, 0.8)
    colour, brick = sample(wall.colour, sx, sy), sample(wall.brick, sx, sy)
    uneven, crumbs, patches = (noise(rng, *p) for p in ((120, 10, 0.6), (22, 3, 0.5), (200, 40)))
    width = taper * (6.0 + 2.1 * uneven + 0.8 * crumbs)
    gap = step(width - dist, -0.8, 1.2)
    hair = step(2.0 + 0.6 * uneven - thin, -0.9, 0.9) * step(uneven, -1.2, 0)
    # Mortar has crumbled out of the joints beside the crack, and edges have broken off.
    lost = width * 2.2 + taper * np.maximum(17 * (uneven + 0.6 * crumbs), 150 * patches - 30)
    lost = step(lost - dist, 0, 6) * (1 - brick)
    chipped = step(width + 4.5 * taper * (crumbs + 0.7 * uneven - 0.9) - dist, 0, 3) * brick
    grit = noise(rng, 9, 2, 0.4)
    height = height - (12 + 2.2 * crumbs + grit) * lost - (3.5 + crumbs + grit) * chipped
    height = height - 34 * gap - 4 * hair
    fresh = mix(linear(176, 104, 74), linear(150, 82, 58), step(crumbs, -1, 1))
    colour = mix(colour, fresh * np.exp(0.12 * grit)[..., None], 0.75 * chipped)
    colour = mix(colour, linear(128, 108, 86) * np.exp(0.16 * grit)[..., None], 0.7 * lost)
    colour = mix(colour, linear(34, 28, 25), np.maximum(0.85 * gap, 0.6 * hair))
    cracked = Wall(height.astype(np.float32), colour, brick, wall.u, wall.v)
    return cracked, np.maximum.reduce([gap, hair, lost, chipped]).astype(np.float32)


def worley(rng, cell, wx, wy):
    """Voronoi cells: number of the nearest site, and distance to the border of its cell."""
    sites = np.stack([g.ravel() for g in np.mgrid[-1 : H // cell + 2, -1 : W // cell + 2]], 1)
    sites = (sites + rng.uniform(0, 1, sites.shape)) * cell
    near, index = cKDTree(sites).query(np.stack([wy.ravel(), wx.ravel()], 1), k=2)
    gap = np.hypot(*(sites[index[:, 0]] - sites[index[:, 1]]).T)
    border = (near[:, 1] ** 2 - near[:, 0] ** 2) / (2 * gap)
    return index[:, 0].reshape(H, W), border.reshape(H, W).astype(np.float32), sites


def inside(mask):
    """Signed distance in pixels to the edge of a mask, positive inside it."""
    m = mask.astype(np.uint8)
    d = cv2.distanceTransform(m, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - m, cv2.DIST_L2, 5)
    return blur(d, 1.2)


def spalled_plaster(seed):
    """An ochre lime-plastered wall: two coats lost over brickwork, map cracking, damp, salts."""
    rng = np.random.default_rng(seed)
    wall = brick_wall(seed + 1, rough=1.7, soot=0.55)
    grain, fine = noise(rng, 9, 1.5, 0.3), noise(rng, 30, 3, 0.8)
    broad, mid = noise(rng, 500, 40, 0.9), noise(rng, 130, 5, 1.1)
    wx, wy = X + 3 * noise(rng, 80, 5, 1.2), Y + 3 * noise(rng, 80, 5, 1.2)
    cells, border, sites = worley(rng, 84, wx, wy)
    bits, small, bit_sites = worley(rng, 34, wx, wy)

    def lost(y, x):
        """How far inside the loss a point is, before the plaster breaks along its cracks."""
        iy, ix = (np.clip(c, 0, m).astype(int) for c, m in ((y, H - 1), (x, W - 1)))
        blob = 1 - np.hypot((x - 1010) / 500, (y - 540) / 370)
        low = 0.75 - np.hypot((x - 640) / 420, (y - 880) / 260)
        return np.maximum(blob, low) * 330 + 60 * broad[iy, ix]

    big = lost(*sites.T) + rng.normal(0, 16, len(sites))
    tiny = lost(*bit_sites.T) + rng.normal(0, 30, len(bit_sites))
    gone = inside((big[cells] > 0) & (tiny[bits] > -60) | (tiny[bits] > 55)) + 1.1 * fine
    in_top = step(gone, 1.2, -1.2)  # finish coat still there
    depth = inside(0.6 * tiny[bits] + 0.4 * lost(Y, X) + 34 * noise(rng, 240, 9, 1.0) > 62)
    depth = np.minimum(depth, gone - 5) + 1.5 * fine
    in_base = step(depth, 3, -3)  # levelling coat still there
    # Heights: brick at 0 to 12, levelling coat about 22, finish coat about 33.
    base = 21 + 1.5 * mid + 0.8 * fine + 0.5 * grain - 3 * step(depth, -14, 0)
    chip = np.exp(np.minimum(gone, 0) / 2.5)
    bulge = 7 * np.exp(np.minimum(gone, 0) / 50) * step(broad, -1, 1)
    top = 33 + 3.5 * broad + 0.5 * mid + 0.06 * fine + 0.12 * grain + bulge - 4 * chip
    top += 0.35 * noise(rng, 120, 4, 1.0, (0.4, 1.4))  # strokes of the float
    height = wall.height + (base - wall.height) * in_base
    height = height + (np.maximum(top, height) - height) * in_top
    # Map cracks: near the loss and in patches, between cells large and small.
    zone = np.exp(np.minimum(gone, 0) / 110) + 0.9 * step(noise(rng, 330, 40, 0.8), 0.0, 1.0)
    thick = np.clip(zone * (1.0 + 0.3 * mid), 0, 1.7)
    lines = step(thick - border, -0.9, 0.6) * step(thick, 0.15, 0.6)
    lines = np.maximum(lines, 0.6 * step(0.7 * thick - small, -0.8, 0.5) * step(zone, 0.6, 1.3))
    # Colours: sandy lime, several old coats of ochre wash, lime smeared over the bricks.
    lime = mix(linear(184, 170, 146), linear(150, 134, 110), step(mid + 0.6 * grain, -1.5, 1.5))
    lime *= np.exp(0.12 * grain + 0.06 * fine)[..., None]
    lime = mix(lime, linear(92, 82, 72), 0.7 * step(noise(rng, 12, 3, 0.3), 1.7, 2.3))
    washes = noise(rng, 320, 4, 0.8, (1.2, 0.5))
    paint = mix(linear(204, 168, 116), linear(188, 146, 96), step(washes, -1.2, 1.4))
    paint = mix(paint, linear(212, 188, 148), 0.6 * step(noise(rng, 300, 4, 0.9), 0.2, 2.0))
    paint *= np.exp(0.05 * mid + 0.04 * grain + 0.03 * fine)[..., None]
    peel = noise(rng, 120, 2.5, 1.0) + 0.55 * step(gone, -90, 0) + 0.3 * broad
    paint = mix(paint, linear(206, 194, 170), 0.8 * step(peel, 1.9, 2.0))  # old limewash
    height = height - (3 * lines + step(peel, 1.9, 2.05)) * in_top
    paint = mix(paint, linear(196, 180, 152), 0.8 * chip)
    brick = mix(wall.colour, lime * 0.9, 0.75 * step(mid + 0.5 * fine + 0.3 * washes, 0.5, 1.2))
    colour = mix(mix(brick, lime, in_base), paint, in_top)
    colour = mix(colour, linear(70, 54, 40), 0.8 * lines * in_top)
    runs = step(noise(rng, 300, 3, 0.7, (1.8, 0.14)), 0.4, 2.4) * step(Y, 1100, 0)
    colour = mix(colour, linear(96, 80, 62), 0.38 * runs)  # rain streaks
    # Rising damp: darker below an uneven tide line, with salts just above and on it.
    tide = Y - 1010 + 55 * noise(rng, 420, 30, 0.9) + 9 * mid
    colour = colour * (1 - step(tide, -25, 30) * (0.39 + 0.09 * step(tide, 60, 0)))[..., None]
    algae = step(noise(rng, 240, 4, 0.7) + (tide - 170) / 130, 0, 2.2)
    colour = mix(colour, linear(70, 72, 48), 0.6 * algae)
    powder = 0.8 * noise(rng, 90, 2, 0.8) + 0.8 * noise(rng, 260, 20, 0.8)
    salt = np.exp(-(((tide - 6) / 30) ** 2)) + 0.55 * np.exp(-(((tide - 95) / 40) ** 2))
    colour = mix(colour, linear(226, 222, 212), 0.75 * step(salt * 1.2 + 0.55 * powder, 0.7, 2.2))
    return Wall(height.astype(np.float32), colour.astype(np.float32), in_top, X, Y)


def cracked_plaster(seed):
    """A rendered wall with one long settlement crack, its branches, and a crumbled spot."""
    rng = np.random.default_rng(seed)
    grain, fine, mid = noise(rng, 9, 1.5, 0.3), noise(rng, 30, 3, 0.8), noise(rng, 130, 5, 1.1)
    broad = noise(rng, 600, 60, 0.9)
    along = np.linspace(-0.05, 1.05, 90)
    x = 460 + 900 * along + np.cumsum(rng.normal(0, 15, 90))
    line = np.stack([x, H * along + np.cumsum(rng.normal(0, 4, 90))], 1)
    branches = []
    for start, side in zip(
        rng.choice(np.arange(10, 78), 9, replace=False), [1, -1] * 5, strict=False
    ):
        steps = np.cumsum(rng.normal((11 * side, 9), (7, 8), (30, 2)), 0)[: rng.integers(8, 30)]
        branches.append(np.vstack([line[start], line[start] + steps]))
    wx, wy = (c + 2.5 * noise(rng, 60, 3, 0.7) for c in (X, Y))
    dist, thin = (sample(distance_to(s), wx, wy) for s in ([line], branches))
    uneven, crumbs = noise(rng, 120, 10, 0.6), noise(rng, 22, 3, 0.5)
    width = (7.5 + 2.5 * uneven + crumbs) * (1.1 - 0.45 * Y / H)
    gap = step(width - dist, -0.8, 1.2)
    hair = step(2.6 + 0.7 * uneven - thin, -0.9, 0.9)
    spot = 130 - np.hypot((wx - line[38, 0] - 30) / 1.3, wy - line[38, 1]) + 34 * mid + 9 * crumbs
    lost = step(np.maximum(spot, width + 7 * (crumbs + uneven - 0.6) - dist), 0, 3)
    height = 20 + 2.5 * broad + 0.8 * mid + 0.12 * grain - 15 * lost - 30 * gap - 6 * hair
    height += lost * (1.8 * crumbs + grain)
    wash = mix(linear(222, 212, 192), linear(206, 192, 168), step(mid + 0.7 * broad, -1.5, 1.6))
    wash *= np.exp(0.04 * grain + 0.03 * fine)[..., None]
    bare = mix(linear(168, 146, 116), linear(138, 114, 88), step(crumbs + 0.5 * mid, -1.2, 1.2))
    colour = mix(wash, bare * np.exp(0.15 * grain)[..., None], lost)
    runs = step(noise(rng, 300, 3, 0.7, (1.8, 0.14)), 0.6, 2.4) * step(Y, 1200, 0)
    colour = mix(colour, linear(128, 112, 92), 0.3 * runs)
    colour = mix(colour, linear(34, 28, 25), np.maximum(0.9 * gap, 0.7 * hair))
    return Wall(height.astype(np.float32), colour.astype(np.float32), 1 - lost, X, Y)


def light(wall):
    """Shade the wall: soft sun from the upper left with cast shadows, blue sky in the open."""
    h = blur(wall.height, 0.6)
    gy, gx = np.gradient(h)
    gx, gy = np.arctan(0.8 * gx) / 0.8, np.arctan(0.8 * gy) / 0.8  # no razor edges
    size = np.sqrt(1 + gx**2 + gy**2)
    direct, open_sky = np.zeros_like(h), np.ones_like(h)
    for azimuth, rise in ((34, 0.62), (42, 0.82), (50, 0.68), (42, 0.5)):  # a sun with some width
        dx, dy, shade = -np.cos(np.radians(azimuth)), -np.sin(np.radians(azimuth)), 0.0
        for s in (1.5, 3, 4.5, 6, 8, 10, 13, 16, 20, 25, 31, 38, 47, 58):
            rim = sample(h, X + dx * s, Y + dy * s) - s * rise - h
            shade = np.maximum(shade, step(rim, -0.4, 1.2 + 0.05 * s))
        lambert = np.maximum((-dx * gx - dy * gy + rise) / np.hypot(1, rise) / size, 0)
        direct += 0.25 * lambert**0.85 * (1 - shade)
    for sigma, k in ((3, 0.5), (9, 0.5), (28, 0.6)):
        open_sky *= np.exp(-k * np.maximum(blur(h, sigma) - h, 0) / sigma * 2)
    sky = open_sky * (0.75 - 0.25 * gy / size)
    warm, cool = np.array([1.0, 0.94, 0.84]), np.array([0.80, 0.91, 1.06])
    lit = 1.25 * direct[..., None] * warm + 0.44 * sky[..., None] * cool
    lit = lit + 0.06 * (1 - open_sky)[..., None] * np.array([1.0, 0.8, 0.62])  # bounced
    return (wall.colour * lit).astype(np.float32)


def camera(scene, seed, a, b):
    """Photograph the lit wall: slight perspective, uneven light, lens, sensor and tone curve."""
    rng = np.random.default_rng(seed)
    scene = scene * np.exp(0.10 * noise(rng, 1600, 500) - 0.16 * (X / W - 0.5))[..., None]
    corners = np.float32([[60 + a, 50], [W - 70, 40 + b], [W - 50 - a, H - 60], [40, H - 45 - b]])
    frame = np.float32([[0, 0], [OUT_W, 0], [OUT_W, OUT_H], [0, OUT_H]])
    matrix = cv2.getPerspectiveTransform(corners, frame)
    img = np.maximum(cv2.warpPerspective(scene, matrix, (OUT_W, OUT_H), flags=cv2.INTER_CUBIC), 0)
    yy, xx = np.mgrid[0:OUT_H, 0:OUT_W]
    r2 = ((xx / OUT_W - 0.5) ** 2 + (yy / OUT_W - 0.375) ** 2).astype(np.float32)
    img *= (1 / (1 + 0.75 * r2) ** 2)[..., None]
    img = mix(blur(img, 0.6), blur(img, 1.1), np.clip(r2 * 2, 0, 1))  # softer corners
    img *= 0.25 / np.median(img.mean(2))
    level = rng.standard_normal((OUT_H, OUT_W, 1)) + 0.5 * rng.standard_normal((OUT_H, OUT_W, 3))
    img += cv2.GaussianBlur(level, (0, 0), 0.6) * np.sqrt(np.maximum(img, 0) * 1.3e-4 + 1e-6)
    img = np.maximum(img, 0)
    img = img * (1 + img / 2.2) / (1 + img)  # shoulder
    srgb = np.clip(1.055 * img ** (1 / 2.4) - 0.055, 0, 1)
    srgb = srgb + 0.16 * (step(srgb, 0, 1) - srgb)  # a touch of contrast
    return Image.fromarray((srgb * 255 + 0.5).astype(np.uint8))


def main():
    """Write the five pictures."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "samples")
    out.mkdir(parents=True, exist_ok=True)
    photo = (Path(datasets.__file__).parent / "images" / "china.jpg").read_bytes()
    at = photo.index(b"\xff\xe1")  # its XMP block, with the serial number of the camera: left out
    end = at + 2 + int.from_bytes(photo[at + 2 : at + 4])
    (out / "summer-palace.jpg").write_bytes(photo[:at] + photo[end:])
    sound = brick_wall(11)
    pictures = {
        "sound-masonry": (sound, 5, 34, 18),
        "cracked-masonry": (crack(sound, 3)[0], 5, 34, 18),
        "cracked-plaster": (cracked_plaster(7), 8, 10, -12),
        "spalled-plaster": (spalled_plaster(21), 6, -20, 24),
    }
    for name, (wall, *view) in pictures.items():
        picture = camera(light(wall), *view)
        picture.save(out / f"{name}.jpg", quality=88, optimize=True, progressive=True)


if __name__ == "__main__":
    main()
