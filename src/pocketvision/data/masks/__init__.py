"""Images whose every pixel has a class: folders of images and masks."""
