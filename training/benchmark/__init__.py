"""How fast it is: parts of training and prediction beside a naive baseline, what one would write without the project."""
