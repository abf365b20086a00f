"""The report and the model card: what a person reads about one run, from a Record alone."""
