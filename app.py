"""Home: what Heritage does, one worked example, and the way in."""

import streamlit as st

from heritage.web.frame import frame
from heritage.web.home import show_example, show_limits, show_recent_surveys, show_way_in

frame("Home")
st.title("Which of these walls needs you first?")
st.markdown(
    "Heritage reads a photograph of a historic building, says how probable it is that **damage** "
    "shows, and marks **where** in the picture it sees it. Photos stay on the computer that "
    "runs this app."
)
show_way_in()
show_recent_surveys()
example = st.container()
show_limits()
with example:
    show_example()
