"""Training as a researcher does it, in a real browser: from a folder to an answer on Inspect."""

from __future__ import annotations

import re

from helpers import labelled_folder
from playwright.sync_api import Page, expect


def test_train_stop_resume_and_inspect_with_the_result(page: Page, app_url, tmp_path):
    folder = labelled_folder(tmp_path / "walls", per_class=16)
    page.goto(f"{app_url}/Train")
    where = page.get_by_role("textbox", name="Labelled photos")
    where.fill(str(folder))
    where.press("Enter")
    expect(page.get_by_text("What it will see")).to_be_visible()
    for backbone in ("AlexNet", "MobileNetV2"):  # the starts are those of the backbone
        box = page.get_by_role("combobox", name="Backbone to train")
        box.fill(backbone)
        page.get_by_role("option", name=backbone, exact=True).click()
        start = page.get_by_role("combobox", name="Start from")
        expect(start).to_have_value(f"{backbone}, as it is here")
    epochs = page.get_by_role("spinbutton", name="Epochs", exact=True)
    epochs.fill("20")
    epochs.press("Enter")
    name = page.get_by_role("textbox", name="Name of the result")
    name.fill("our_walls")
    name.press("Enter")
    page.get_by_role("button", name="Start training").click()

    told = page.get_by_text(re.compile(r"Epoch \d+ of 20, batch \d+ of \d+ · about .+ left"))
    expect(told).to_be_visible()
    seen = int(told.inner_text().split()[1])
    page.goto("about:blank")  # the run goes on without the tab
    page.goto(f"{app_url}/Train")
    later = "|".join(str(epoch) for epoch in range(seen + 1, 21))
    expect(page.get_by_text(re.compile(rf"Epoch ({later}) of 20"))).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("It goes on from there")).to_be_visible()

    page.goto("about:blank")  # nothing is lost with the tab
    page.goto(f"{app_url}/Train")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Inspect with it").click()
    page.locator("input[type=file]").set_input_files(folder / "damaged" / "house0" / "0.jpg")
    expect(page.get_by_test_id("stMetric").filter(has_text="Damage")).to_be_visible()
    expect(page.get_by_text("MobileNetV2 (our_walls)").first).to_be_visible()
