"""The notebooks' lessons, measured and drawn."""
