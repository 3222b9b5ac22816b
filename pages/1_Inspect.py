import streamlit as st

from heritage.web.frame import errors_in_words, frame, plain
from heritage.web.inspection_view import chosen_method, show_inspection, show_way_back
from heritage.web.models import choose_checkpoint, inspect, show_how_to_train
from heritage.web.photo_input import forget_photo, photo_input

frame("Inspect")
photo = photo_input()
if photo:
    show_way_back(photo)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(f"# {plain(photo.name)}", width="stretch")
        card = choose_checkpoint()
        st.button("Another photo", icon=":material/add_photo_alternate:", on_click=forget_photo)
    if not card:
        show_how_to_train(st.session_state.get("checkpoint"))
    if card:
        with errors_in_words():
            with st.spinner(f"{plain(card.title)} is looking at the photo …"):
                inspection = inspect(photo, card, chosen_method())
            show_inspection(photo, inspection, card)
