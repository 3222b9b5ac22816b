from heritage.web.frame import frame
from heritage.web.guide import show_guide

frame("Guide")
show_guide()
