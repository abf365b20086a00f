"""The main job: from labelled images and a budget to one folder."""
