from heritage.web.frame import errors_in_words, frame
from heritage.web.survey_view import chosen_survey, show_survey
from heritage.web.triage_input import new_triage

frame("Triage")
with errors_in_words():
    survey = chosen_survey()
    if survey is None:
        new_triage()
    else:
        show_survey(survey)
