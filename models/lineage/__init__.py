"""What Faster R-CNN came from, for comparison: Selective Search, R-CNN and Fast R-CNN, and their timing."""
