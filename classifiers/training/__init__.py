"""Making packs: the encoder's export, data, heads, calibration. Serving never imports this package."""
