"""Stage 3: fine-tune on the crops, then fuse with the full-image model (:mod:`heatcrop.metrics.fusion`)."""
