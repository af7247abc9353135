"""HeatCrop: crops guided by class activation maps for fine visual attributes."""
