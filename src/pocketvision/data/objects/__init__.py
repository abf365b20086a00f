"""Objects in images: annotations of Pascal VOC, COCO and YOLO, read into one form."""
