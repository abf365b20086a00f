"""What the main job is done for: one file a task, all of one form."""
