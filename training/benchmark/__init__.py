"""How fast it is: every part of training and inference beside the same part written the obvious way."""
