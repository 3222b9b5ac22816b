from heritage.web.frame import errors_in_words, frame
from heritage.web.survey_list import show_buildings, show_surveys

frame("Surveys")
with errors_in_words():
    show_surveys()
    show_buildings()
