"""What the collections show that the shipped checkpoints learned from or were scored on."""

from __future__ import annotations

SHOWS = {
    "nepal-quake": "temples and houses after the earthquake of 2015",
    "nabila-houses": "masonry and timber houses, damaged",
    "nikhil-roofs": "broken roofs",
    "nikhil-survey": "a survey of walls, ceilings and facades",
    "sdnet-walls": "patches of concrete wall, cracked or not (SDNET2018)",
    "susanta-walls": "plaster walls",
    "nepal-temples": "temples and squares of the Kathmandu valley",
    "cmp-facades": "facades of the 19th century, rectified (CMP Facade Database)",
    "indian-monuments": "Indian monuments",
    "quake-triage": "whole buildings after earthquakes, collapsed or intact",
    "old-city-wall": "historic brick and stone, close up",
}
