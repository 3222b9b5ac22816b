from heritage.web.backbone_cards import show_backbones
from heritage.web.frame import frame

frame("Backbones")
show_backbones()
