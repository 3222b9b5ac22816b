import streamlit as st

from heritage.web.frame import errors_in_words, frame
from heritage.web.inspection_view import show_inspection
from heritage.web.models import choose_checkpoint, inspect
from heritage.web.photo_input import photo_input

frame("Inspect")
photo = photo_input()
if photo:
    card = choose_checkpoint()
    if card:
        with errors_in_words():
            with st.spinner(f"{card.title} is looking at the photo …"):
                inspection = inspect(photo, card)
            show_inspection(photo, inspection, card)
