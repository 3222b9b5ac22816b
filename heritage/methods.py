"""The ways to make a heat map, by name; importing this costs nothing."""

from __future__ import annotations

GRAD_CAM = "grad_cam"
# Name and title of those that read the photo as a whole; the first is the default.
METHODS = {
    GRAD_CAM: "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "hires_cam": "HiResCAM",
    "eigen_cam": "EigenCAM",
}
DETAIL_SCAN = "detail_scan"
