from heritage.web.frame import frame
from heritage.web.training_view import show_training

frame("Train")
show_training()
